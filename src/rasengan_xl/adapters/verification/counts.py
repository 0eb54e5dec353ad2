"""How many numbers an adapter must consist of, from ranks and the shapes of layers alone."""

from math import prod

import torch

from rasengan_xl.adapters.changes import Change, Decomposed, Dense, Hadamard, Kronecker, LowRank

Factor = tuple[torch.Tensor, ...]


def expected_parameters(change: Change, shape: torch.Size) -> int:
    """Count the numbers that a change of its kind and rank has for a weight of this shape.

    LoRA: r (in + out) (arXiv:2106.09685, section 4.1), with a core also r x r x kernel (LoCon,
    arXiv:2309.14859, section 3); LoHa: twice that (arXiv:2108.06098, section 2.2); DoRA: a
    magnitude more for each row or column (arXiv:2402.09353, section 4.1).
    """
    outputs, inputs, kernel = shape[0], shape[1], prod(shape[2:])
    match change:
        case Decomposed():
            magnitudes = outputs if change.axis == "output" else inputs
            return expected_parameters(change.direction, shape) + magnitudes
        case LowRank():
            return _of_product(
                change.rank, outputs, inputs, kernel, has_core=change.mid is not None
            )
        case Hadamard():
            has_core = change.cores is not None
            return 2 * _of_product(change.rank, outputs, inputs, kernel, has_core=has_core)
        case Kronecker():
            return _of_kronecker(change, outputs, inputs, kernel)
        case Dense():
            return shape.numel()


def _of_product(rank: int, outputs: int, inputs: int, kernel: int, *, has_core: bool) -> int:
    if has_core:
        return rank * (outputs + inputs) + rank * rank * kernel
    return rank * (outputs + inputs * kernel)


def _of_kronecker(change: Kronecker, outputs: int, inputs: int, kernel: int) -> int:
    """Count both factors of LoKr: one has the size that the other leaves of the layer's."""
    rows, columns = change.first[0].shape[0], change.first[-1].shape[1]
    first = _of_factor(change.first, rows, columns)
    rest = (outputs // rows, inputs // columns)
    if change.core is not None:
        rank = change.core.shape[0]
        return first + _of_product(rank, *rest, kernel, has_core=True)
    return first + _of_factor(change.second, rest[0], rest[1] * kernel)


def _of_factor(factor: Factor, rows: int, columns: int) -> int:
    if len(factor) == 1:
        return rows * columns
    return factor[0].shape[1] * (rows + columns)
