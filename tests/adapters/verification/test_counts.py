import pytest
import torch

from rasengan_xl.adapters.changes import (
    Decomposed,
    Dense,
    Hadamard,
    Kronecker,
    LowRank,
    tensors_of,
)
from rasengan_xl.adapters.verification.counts import expected_parameters

LINEAR, CONVOLUTION = torch.Size([12, 8]), torch.Size([12, 8, 3, 3])


def zeros(*shape):
    return torch.zeros(shape)


def low_rank(*, kernel=(), core=False):
    ones = (1,) * len(kernel)
    return LowRank(
        down=zeros(2, 8, *(ones if core else kernel)),
        up=zeros(12, 2, *ones),
        mid=zeros(2, 2, *kernel) if core else None,
        alpha=1.0,
    )


CHANGES = {
    "LoRA": (low_rank(), LINEAR, 2 * (12 + 8)),
    "LoRA of a convolution": (low_rank(kernel=(3, 3)), CONVOLUTION, 2 * (12 + 8 * 9)),
    "LoCon": (low_rank(kernel=(3, 3), core=True), CONVOLUTION, 2 * (12 + 8) + 4 * 9),
    "LoHa": (
        Hadamard(
            first=(zeros(12, 2), zeros(2, 8)), second=(zeros(12, 2), zeros(2, 8)), alpha=1.0
        ),
        LINEAR,
        2 * 2 * (12 + 8),
    ),
    "LoHa with cores": (
        Hadamard(
            first=(zeros(2, 12), zeros(2, 8)),
            second=(zeros(2, 12), zeros(2, 8)),
            cores=(zeros(2, 2, 3, 3), zeros(2, 2, 3, 3)),
            alpha=1.0,
        ),
        CONVOLUTION,
        2 * (2 * (12 + 8) + 4 * 9),
    ),
    "LoKr": (
        Kronecker(first=(zeros(4, 2),), second=(zeros(3, 2), zeros(2, 4)), alpha=1.0),
        LINEAR,
        4 * 2 + 2 * (3 + 4),
    ),
    "LoKr of two products": (
        Kronecker(
            first=(zeros(4, 1), zeros(1, 2)), second=(zeros(3, 4 * 9),), alpha=1.0
        ),
        CONVOLUTION,
        (4 + 2) + 3 * 4 * 9,
    ),
    "LoKr with a core": (
        Kronecker(
            first=(zeros(4, 2),),
            second=(zeros(2, 3), zeros(2, 4)),
            core=zeros(2, 2, 3, 3),
            alpha=1.0,
        ),
        CONVOLUTION,
        4 * 2 + 2 * (3 + 4) + 4 * 9,
    ),
    "difference": (Dense(change=zeros(12, 8)), LINEAR, 12 * 8),
    "DoRA": (Decomposed(direction=low_rank(), magnitude=zeros(12)), LINEAR, 2 * 20 + 12),
    "DoRA by input": (
        Decomposed(direction=low_rank(), magnitude=zeros(8), axis="input"), LINEAR, 2 * 20 + 8,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_the_formula_of_a_kind_gives_what_there_is(kind):
    change, shape, expected = CHANGES[kind]
    assert expected_parameters(change, shape) == expected
    assert sum(tensor.numel() for tensor in tensors_of(change)) == expected


def test_a_magnitude_too_many_is_not_what_the_formula_gives():
    change = Decomposed(direction=low_rank(), magnitude=zeros(13))
    assert expected_parameters(change, LINEAR) == 2 * 20 + 12
    assert sum(tensor.numel() for tensor in tensors_of(change)) == 2 * 20 + 13
