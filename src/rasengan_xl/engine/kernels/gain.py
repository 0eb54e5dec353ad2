# pyright: basic, reportMissingImports=false, reportIndexIssue=false
"""DoRA's gain and its gradient, one pass over memory each.

What is summed over tokens is summed in an order that only the sizes decide, so that two runs give
the same bits: each program sums the rows of some tiles, then a second kernel sums the programs'.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 16, 128
ENOUGH_PROGRAMS = 2048
"""Some for each multiprocessor of the largest GPUs, several times over."""
MOST_TILES = 32
"""Of a program, one after another."""
SUMS_AT_ONCE, SUMMED_COLUMNS = 128, 32


def apply_(product: Tensor, gain: Tensor, shift: Tensor | None) -> None:
    """Multiply each column by its gain and add its shift, in place."""
    rows, columns = product.shape
    grid = triton.cdiv(rows, ROWS), triton.cdiv(columns, COLUMNS)
    _apply[grid](
        product, gain, gain if shift is None else shift, product.stride(0), product.stride(1),
        rows, columns, HAS_SHIFT=shift is not None, ROWS=ROWS, COLUMNS=COLUMNS,
    )  # fmt: skip


def backward(
    gradient: Tensor, scaled: Tensor, gain: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return gradient * gain, and the sum over rows of gradient * (scaled - bias) / gain."""
    rows, columns = gradient.shape
    tiles, column_blocks = triton.cdiv(rows, ROWS), triton.cdiv(columns, COLUMNS)
    tiles_each = min(max(1, tiles * column_blocks // ENOUGH_PROGRAMS), MOST_TILES)
    programs = triton.cdiv(tiles, tiles_each)
    of_product = torch.empty(rows, columns, dtype=gradient.dtype, device=gradient.device)
    sums = torch.empty(programs, columns, dtype=torch.float32, device=gradient.device)
    of_gain = torch.empty_like(gain)
    _backward[programs, column_blocks](
        gradient, scaled, gain, gain if bias is None else bias, of_product, sums,
        *gradient.stride(), *scaled.stride(), rows, columns, tiles_each,
        HAS_BIAS=bias is not None, ROWS=ROWS, COLUMNS=COLUMNS,
    )  # fmt: skip
    _finish[(triton.cdiv(columns, SUMMED_COLUMNS),)](
        sums, gain, of_gain, programs, columns, AT_ONCE=SUMS_AT_ONCE, COLUMNS=SUMMED_COLUMNS
    )
    return of_product, of_gain


@triton.jit
@no_type_check
def _apply(
    product, gain, shift, row_stride, column_stride, rows, columns,
    HAS_SHIFT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    factor = tl.load(gain + column, mask=column < columns, other=0.0).to(tl.float32)
    inside = (row < rows) & (column < columns)[None, :]
    at = product + row * row_stride + column[None, :] * column_stride
    made = tl.load(at, mask=inside, other=0.0).to(tl.float32) * factor[None, :]
    if HAS_SHIFT:
        made += tl.load(shift + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    tl.store(at, made.to(product.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _backward(
    gradient, scaled, gain, bias, of_product, sums, gradient_row, gradient_column, scaled_row,
    scaled_column, rows, columns, tiles_each,
    HAS_BIAS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    factor = tl.load(gain + column, mask=column < columns, other=0.0).to(tl.float32)
    added = tl.zeros([COLUMNS], dtype=tl.float32)
    if HAS_BIAS:
        added = tl.load(bias + column, mask=column < columns, other=0.0).to(tl.float32)
    summed = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    for tile in range(tiles_each):
        first = (tl.program_id(0) * tiles_each + tile) * ROWS
        row = (first + tl.arange(0, ROWS)).to(tl.int64)[:, None]
        inside = (row < rows) & (column < columns)[None, :]
        upstream_at = gradient + row * gradient_row + column[None, :] * gradient_column
        upstream = tl.load(upstream_at, mask=inside, other=0.0).to(tl.float32)
        made_at = scaled + row * scaled_row + column[None, :] * scaled_column
        made = tl.load(made_at, mask=inside, other=0.0).to(tl.float32)
        summed += upstream * (made - added[None, :])
        to = of_product + row * columns + column[None, :]
        product = upstream * factor[None, :]
        tl.store(to, product.to(of_product.dtype.element_ty), mask=inside)
    to = sums + tl.program_id(0) * columns + column
    tl.store(to, tl.sum(summed, axis=0), mask=column < columns)


@triton.jit
@no_type_check
def _finish(sums, gain, of_gain, programs, columns, AT_ONCE: tl.constexpr, COLUMNS: tl.constexpr):
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([AT_ONCE, COLUMNS], dtype=tl.float32)
    for first in range(0, programs, AT_ONCE):
        program = (first + tl.arange(0, AT_ONCE))[:, None]
        inside = (program < programs) & (column < columns)[None, :]
        total += tl.load(sums + program * columns + column[None, :], mask=inside, other=0.0)
    factor = tl.load(gain + column, mask=column < columns, other=1.0).to(tl.float32)
    made = tl.sum(total, axis=0) / factor
    tl.store(of_gain + column, made.to(of_gain.dtype.element_ty), mask=column < columns)
