# pyright: basic, reportMissingImports=false, reportIndexIssue=false
"""GEGLU and its gradient, one pass over memory each, in float32 inside.

A program computes a tile of rows by columns of the hidden values; SDXL's widths are multiples of
a tile's.
"""

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 4, 512


def forward(projected: Tensor) -> Tensor:
    """Return the first half of the columns times the GELU of the second."""
    projected = _with_close_columns(projected)
    rows, hidden = len(projected), projected.shape[1] // 2
    made = projected.new_empty(rows, hidden)
    _forward[_grid(made)](
        projected, made, projected.stride(0), rows, hidden, ROWS=ROWS, COLUMNS=COLUMNS
    )
    return made


def backward_(projected: Tensor, gradient: Tensor) -> Tensor:
    """Put the gradient of both halves in their place: no number depends on those of others."""
    projected, gradient = _with_close_columns(projected), _with_close_columns(gradient)
    rows, hidden = gradient.shape
    _backward[_grid(gradient)](
        projected, gradient, projected.stride(0), gradient.stride(0), rows, hidden,
        ROWS=ROWS, COLUMNS=COLUMNS,
    )  # fmt: skip
    return projected


def _grid(hidden: Tensor) -> tuple[int, int]:
    rows, columns = hidden.shape
    return triton.cdiv(rows, ROWS), triton.cdiv(columns, COLUMNS)


def _with_close_columns(matrix: Tensor) -> Tensor:
    """Return a matrix whose rows may lie apart, but not the numbers of a row."""
    return matrix if matrix.stride(1) == 1 else matrix.contiguous()


@triton.jit
@no_type_check
def _forward(
    projected, made, projected_stride, rows, hidden, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    column = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    inside = (row < rows) & (column < hidden)
    at = projected + row * projected_stride + column
    value = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(at + hidden, mask=inside, other=0.0).to(tl.float32)
    normal_cdf = 0.5 * (1.0 + tl.erf(gate * 0.7071067811865476))
    product = value * (gate * normal_cdf)
    tl.store(made + row * hidden + column, product.to(made.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _backward(
    projected, gradient, projected_stride, gradient_stride, rows, hidden,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    column = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    inside = (row < rows) & (column < hidden)
    at = projected + row * projected_stride + column
    value = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(at + hidden, mask=inside, other=0.0).to(tl.float32)
    upstream = tl.load(gradient + row * gradient_stride + column, mask=inside, other=0.0)
    upstream = upstream.to(tl.float32)
    normal_cdf = 0.5 * (1.0 + tl.erf(gate * 0.7071067811865476))
    normal_pdf = 0.3989422804014327 * tl.exp(-0.5 * gate * gate)
    of_value = upstream * gate * normal_cdf
    of_gate = upstream * value * (normal_cdf + gate * normal_pdf)
    tl.store(at, of_value.to(projected.dtype.element_ty), mask=inside)
    tl.store(at + hidden, of_gate.to(projected.dtype.element_ty), mask=inside)
