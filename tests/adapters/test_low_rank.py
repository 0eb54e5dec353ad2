import math

import pytest
import torch

from rasengan_xl.adapters.changes import LowRank
from rasengan_xl.adapters.low_rank import (
    Limits,
    nearest_low_rank,
    product_norm,
    relative_distance,
    shrink,
    without_core,
)


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def difference(change, shape):
    return change.difference(torch.Size(shape), torch.device("cpu"))


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (8, 6, 3, 3), (40, 2, 3, 3)])
def test_the_nearest_is_what_the_singular_values_say(shape):
    change = randn(*shape)
    values = torch.linalg.svdvals(change.flatten(1))
    for rank in (1, 3, len(values)):
        factors = nearest_low_rank(change, Limits(rank=rank))
        assert factors.rank == rank
        assert factors.scale == 1
        assert factors.down.shape == (rank, *shape[1:])
        assert factors.up.shape == (shape[0], rank, *(1,) * (len(shape) - 2))
        left_out = (values[rank:].norm() / values.norm()).item()
        found = relative_distance(difference(factors, shape), change)
        assert found == pytest.approx(left_out, abs=1e-6)


@pytest.mark.parametrize("residual", [0.5, 0.1, 1e-3, 1e-7])
def test_no_more_rank_is_taken_than_the_residual_needs(residual):
    change = randn(24, 6) @ randn(6, 30) * torch.logspace(0, -2, 30)
    factors = nearest_low_rank(change, Limits(residual=residual))
    found = relative_distance(difference(factors, change.shape), change)
    assert found <= residual + 2e-7
    if factors.rank > 1:
        fewer = nearest_low_rank(change, Limits(rank=factors.rank - 1))
        assert relative_distance(difference(fewer, change.shape), change) > residual


def test_a_change_of_low_rank_is_found_to_be_one():
    change = randn(40, 3) @ randn(3, 50)
    factors = nearest_low_rank(change, Limits(residual=1e-6))
    assert factors.rank == 3
    assert relative_distance(difference(factors, change.shape), change) < 1e-6


def test_what_changes_nothing_stays_so():
    factors = nearest_low_rank(torch.zeros(5, 7), Limits(residual=0.01))
    assert factors.rank == 1
    assert not difference(factors, (5, 7)).any()


@pytest.mark.parametrize("shape", [(12, 20), (8, 6, 3, 3)])
def test_shrinking_the_factors_is_the_same_as_shrinking_their_product(shape):
    kernel = shape[2:]
    change = LowRank(
        down=randn(6, shape[1], *kernel), up=randn(shape[0], 6, *(1,) * len(kernel)), alpha=9.0
    )
    whole = difference(change, shape)
    for limits in (Limits(rank=2), Limits(residual=0.3)):
        by_factors = shrink(change, torch.Size(shape), limits)
        by_product = nearest_low_rank(whole, limits)
        assert by_factors.rank == by_product.rank
        torch.testing.assert_close(difference(by_factors, shape), difference(by_product, shape))


def test_a_core_is_multiplied_in_without_loss():
    change = LowRank(down=randn(3, 6, 1, 1), up=randn(8, 3, 1, 1), mid=randn(3, 3, 3, 3), alpha=2.0)
    plain = without_core(change)
    assert plain.mid is None
    assert plain.rank == 3
    shape = (8, 6, 3, 3)
    torch.testing.assert_close(difference(plain, shape), difference(change, shape))


def test_norms_are_known_without_the_product():
    left, right = randn(30, 4), randn(4, 50)
    assert product_norm(left, right) == pytest.approx((left @ right).norm().item())


def test_nothing_is_infinitely_far_from_something():
    zero, one = torch.zeros(2, 2), torch.ones(2, 2)
    assert relative_distance(zero, zero) == 0
    assert relative_distance(one, zero) == math.inf
