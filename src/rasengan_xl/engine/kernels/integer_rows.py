# pyright: basic, reportMissingImports=false, reportIndexIssue=false
"""Round rows to 8-bit whole numbers, and turn sums of their products back, in one pass each."""

# pyright: basic, reportMissingImports=false, reportIndexIssue=false
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float32, Int8, Int32
from torch import Tensor

_SMALLEST = torch.finfo(torch.float32).tiny * 127
_WIDE, _WIDEST = 2048, 8192
_COLUMNS = 1024


def round_rows(
    values: Float[Tensor, "token width"], factors: Float32[Tensor, "width 1"] | None
) -> tuple[Int8[Tensor, "token width"], Float32[Tensor, "token 1"]]:
    """Return each row as whole numbers, and its scale; what is not finite makes it so, too."""
    values = values if values.stride(1) == 1 else values.contiguous()
    tokens, width = values.shape
    rows = torch.empty((tokens, width), dtype=torch.int8, device=values.device)
    scales = torch.empty((tokens, 1), dtype=torch.float32, device=values.device)
    block = triton.next_power_of_2(width)
    warps = 4 if block <= _WIDE else 8 if block <= _WIDEST else 16
    _round_row[(tokens,)](
        values,
        values if factors is None else factors,
        rows,
        scales,
        width,
        values.stride(0),
        SMALLEST=_SMALLEST,
        HAS_FACTORS=factors is not None,
        BLOCK=block,
        num_warps=warps,
    )
    return rows, scales


def scale_sums(
    sums: Int32[Tensor, "token width"],
    scales: Float32[Tensor, "token 1"],
    factors: Float32[Tensor, "width 1"] | None,
    bias: Float[Tensor, " width"] | None,
    dtype: torch.dtype,
) -> Float[Tensor, "token width"]:
    """Multiply by the scales of rows and columns, add the bias, and round once."""
    tokens, width = sums.shape
    product = torch.empty((tokens, width), dtype=dtype, device=sums.device)
    _scale_row[(tokens, triton.cdiv(width, _COLUMNS))](
        sums,
        scales,
        scales if factors is None else factors,
        scales if bias is None else bias,
        product,
        width,
        HAS_FACTORS=factors is not None,
        HAS_BIAS=bias is not None,
        BLOCK=_COLUMNS,
        num_warps=4,
    )
    return product


@triton.jit
@no_type_check
def _round_row(
    values: Any,
    factors: Any,
    rows: Any,
    scales: Any,
    width: Any,
    stride: Any,
    SMALLEST: tl.constexpr,
    HAS_FACTORS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    given = tl.load(values + row * stride + columns, mask=inside, other=0.0).to(tl.float32)
    if HAS_FACTORS:
        given = given * tl.load(factors + columns, mask=inside, other=0.0)
    # A maximum passes over what is not a number; a sum does not.
    strange = tl.sum(given * 0.0, axis=0)
    scale = tl.maximum(tl.max(tl.abs(given), axis=0), SMALLEST) / 127.0 + strange
    whole = tl.floor(given / scale + 0.5)
    tl.store(rows + row * width + columns, whole.to(tl.int8), mask=inside)
    tl.store(scales + row, scale)


@triton.jit
@no_type_check
def _scale_row(
    sums: Any,
    scales: Any,
    factors: Any,
    bias: Any,
    product: Any,
    width: Any,
    HAS_FACTORS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    found = tl.load(sums + row * width + columns, mask=inside, other=0).to(tl.float32)
    found = found * tl.load(scales + row)
    if HAS_FACTORS:
        found = found * tl.load(factors + columns, mask=inside, other=0.0)
    if HAS_BIAS:
        found = found + tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(product + row * width + columns, found.to(product.dtype.element_ty), mask=inside)
