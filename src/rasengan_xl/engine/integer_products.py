"""Multiply int8 weights by inputs that are rounded to int8 too, each row by its own scale.

As LLM.int8() does without its outliers (arXiv:2208.07339, section 2.1), forward and backward.  A
row is a token; its largest value becomes 127.  Backward, the weight's own scales stand along the
axis that is summed over, so they are multiplied into the gradient before it is rounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Float32, Int8, Int32
from torch import Tensor, nn

from rasengan_xl.engine.kernels.availability import has_kernels, load_kernels
from rasengan_xl.sdxl.int8_layers import LARGEST, is_int8

LEAST_ROWS = 32
"""cuBLAS multiplies more than 16 rows only; as few are no work anyway."""
MULTIPLE = 8
"""Of both widths, for cuBLAS."""

_multiply: Any = cast("Any", torch)._int_mm  # noqa: SLF001 - it has no public name

Rows = Int8[Tensor, "token width"]
Scales = Float32[Tensor, "token 1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Integers:
    """The weights of layers that share an input, and the scale of each of their outputs."""

    weight: Int8[Tensor, "out inside"]
    scale: Float32[Tensor, "out 1"]


def join_integers(layers: Sequence[nn.Linear]) -> Integers | None:
    """Lay the weights of int8 layers behind one another; each layer keeps its own as a view.

    Returns:
        Nothing if they are not all stored in int8, or of a width that cuBLAS cannot multiply.
    """
    stored: list[Any] = list(layers)
    widths = (width for layer in layers for width in (layer.in_features, layer.out_features))
    if not all(map(is_int8, layers)) or any(width % MULTIPLE for width in widths):
        return None
    if len(stored) == 1:
        return Integers(weight=stored[0].weight.detach(), scale=stored[0].scale)
    joined = Integers(
        weight=torch.cat([layer.weight.detach() for layer in stored]),
        scale=torch.cat([layer.scale for layer in stored]),
    )
    start = 0
    for layer in stored:
        rows = slice(start, start + layer.out_features)
        layer.weight.data, layer.scale = joined.weight[rows], joined.scale[rows]
        start = rows.stop
    return joined


def has_work(rows: Float[Tensor, "*token width"]) -> bool:
    """Tell whether there are enough rows to multiply as integers."""
    return rows.numel() >= LEAST_ROWS * rows.shape[-1]


def integer_product(
    given: Float[Tensor, "*token inside"], stored: Integers, bias: Tensor | None
) -> Float[Tensor, "*token out"]:
    """Compute layers of int8 weights."""
    rows, scales = round_rows(given.reshape(-1, given.shape[-1]))
    sums = _multiply(rows, stored.weight.T)
    product = scale_sums(sums, scales, stored.scale, bias, given.dtype)
    return product.view(*given.shape[:-1], -1)


def integer_input_gradient(
    gradient: Float[Tensor, "*token out"], stored: Integers
) -> Float[Tensor, "*token inside"]:
    """Return the gradient of the layers' input from that of their outputs."""
    rows, scales = round_rows(gradient.reshape(-1, gradient.shape[-1]), stored.scale)
    # cuBLAS multiplies int8 only where both are summed over along their rows in memory.
    by_input = stored.weight.T.contiguous()
    sums = _multiply(rows, by_input.T)
    found = scale_sums(sums, scales, None, None, gradient.dtype)
    return found.view(*gradient.shape[:-1], -1)


def round_rows(
    values: Float[Tensor, "token width"], factors: Float32[Tensor, "width 1"] | None = None
) -> tuple[Rows, Scales]:
    """Return each row as whole numbers, and its scale, which multiplies them.

    Args:
        values: To round.
        factors: Of each column, multiplied first.
    """
    if values.is_meta:
        scales = torch.empty(len(values), 1, device=values.device)
        return torch.empty_like(values, dtype=torch.int8), scales
    if has_kernels(values):
        return load_kernels("integer_rows").round_rows(values, factors)
    in_full = values.float() if factors is None else values.float() * factors.T
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
    if sums.is_meta:
        return torch.empty_like(sums, dtype=dtype)
    if has_kernels(scales):
        return load_kernels("integer_rows").scale_sums(sums, scales, factors, bias, dtype)
    product = sums * scales
    if factors is not None:
        product *= factors.T
    if bias is not None:
        product += bias
    return product.to(dtype)
