"""Multiply int8 weights by inputs that are rounded to int8 too, each row by its own scale.

As LLM.int8() does without its outliers (arXiv:2208.07339, section 2.1), forward and backward.  A
row is a token; its largest value becomes 127.  Backward, the weight's own scales stand along the
axis that is summed over, so they are multiplied into the gradient before it is rounded.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Float32, Int8, Int32
from torch import Tensor, nn

from rasengan_xl.engine.kernels.availability import has_kernels, load_kernels
from rasengan_xl.sdxl.int8_layers import LARGEST, Int8Linear, is_int8

LEAST_ROWS = 32
"""cuBLAS multiplies more than 16 rows only; as few are no work anyway."""
MULTIPLE = 8
"""Of both widths, for cuBLAS."""

_multiply: Any = cast("Any", torch)._int_mm  # noqa: SLF001 - it has no public name

Rows = Int8[Tensor, "token width"]
Scales = Float32[Tensor, "token 1"]


def can_multiply_integers(rows: Float[Tensor, "*token width"], layer: nn.Linear) -> bool:
    """Tell whether a product can be had so."""
    return (
        is_int8(layer)
        and rows.numel() >= LEAST_ROWS * rows.shape[-1]
        and layer.in_features % MULTIPLE == layer.out_features % MULTIPLE == 0
    )


def integer_product(
    given: Float[Tensor, "*token inside"], layer: nn.Linear
) -> Float[Tensor, "*token outside"]:
    """Compute a layer of int8 weights."""
    stored = cast("Int8Linear", layer)
    rows, scales = round_rows(given.reshape(-1, given.shape[-1]))
    sums = _multiply(rows, stored.weight.T)
    bias = cast("Tensor | None", stored.bias)
    product = scale_sums(sums, scales, stored.scale, bias, given.dtype)
    return product.view(*given.shape[:-1], layer.out_features)


def integer_input_gradient(
    gradient: Float[Tensor, "*token outside"], layer: nn.Linear
) -> Float[Tensor, "*token inside"]:
    """Return the gradient of a layer's input from that of its output."""
    stored = cast("Int8Linear", layer)
    flat = gradient.reshape(-1, gradient.shape[-1])
    rows, scales = round_rows(flat, stored.scale)
    # cuBLAS multiplies int8 only where both are summed over along their rows in memory.
    by_input = stored.weight.T.contiguous()
    sums = _multiply(rows, by_input.T)
    found = scale_sums(sums, scales, None, None, gradient.dtype)
    return found.view(*gradient.shape[:-1], layer.in_features)


def round_rows(
    values: Float[Tensor, "token width"], factors: Float32[Tensor, "width 1"] | None = None
) -> tuple[Rows, Scales]:
    """Return each row as whole numbers, and its scale, which multiplies them.

    Args:
        values: To round.
        factors: Of each column, multiplied first.
    """
    if has_kernels(values):
        return load_kernels("integer_rows").round_rows(values, factors)
    in_full = values.float() if factors is None else values * factors.T
    largest = in_full.abs().amax(dim=1, keepdim=True)
    scales = largest.clamp(min=torch.finfo(torch.float32).tiny * LARGEST) / LARGEST
    return (in_full / scales).round().to(torch.int8), scales


def scale_sums(
    sums: Int32[Tensor, "token width"],
    scales: Scales,
    factors: Float32[Tensor, "width 1"] | None,
    bias: Float[Tensor, " width"] | None,
    dtype: torch.dtype,
) -> Float[Tensor, "token width"]:
    """Turn sums of whole numbers into what they stand for.

    Args:
        sums: Of products.
        scales: Of each row.
        factors: Of each column; absent: 1.
        bias: Added; absent: nothing.
        dtype: Of the result, which is rounded once.
    """
    if has_kernels(scales):
        return load_kernels("integer_rows").scale_sums(sums, scales, factors, bias, dtype)
    product = sums * scales
    if factors is not None:
        product *= factors.T
    if bias is not None:
        product += bias
    return product.to(dtype)
