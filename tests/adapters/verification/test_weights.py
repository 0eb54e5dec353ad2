import pytest
import torch

from rasengan_xl.adapters.changes import Decomposed, Hadamard, LowRank, weight_change
from rasengan_xl.adapters.verification.weights import check_change, measure_change
from rasengan_xl.runs.verification import LayerChange


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + shape[0]))


LORA = LowRank(down=drawn(3, 8), up=drawn(12, 3), alpha=2.0)
CHANGES = {
    "LoRA": (LORA, drawn(12, 8)),
    "convolution": (
        LowRank(down=drawn(3, 8, 3, 3), up=drawn(12, 3, 1, 1), alpha=2.0),
        drawn(12, 8, 3, 3),
    ),
    "LoHa": (
        Hadamard(
            first=(drawn(12, 2), drawn(2, 8)), second=(drawn(12, 2), drawn(2, 8)), alpha=1.0
        ),
        drawn(12, 8),
    ),
    "DoRA": (Decomposed(direction=LORA, magnitude=drawn(12)), drawn(12, 8)),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_the_norm_is_that_of_the_weight_change(kind):
    change, weight = CHANGES[kind]
    measured = measure_change("unet.x", change, weight.shape, weight)
    expected = weight_change(change, weight).square().sum().sqrt().item()
    assert measured.change_norm == pytest.approx(expected, rel=1e-5)
    share = expected / weight.square().sum().sqrt().item()
    assert measured.relative == pytest.approx(share, rel=1e-5)


def test_without_the_base_only_doras_norm_is_unknown():
    for kind, (change, weight) in CHANGES.items():
        measured = measure_change("unet.x", change, weight.shape, None)
        assert (measured.change_norm is None) == (kind == "DoRA")
        assert measured.relative is None


def test_a_norm_that_is_no_number_is_left_out():
    change = LowRank(down=torch.full((1, 2), torch.inf), up=torch.ones(2, 1), alpha=1.0)
    assert measure_change("unet.x", change, torch.Size([2, 2]), None).change_norm is None


def layer(name, change_norm):
    return LayerChange(
        layer=name, kind="LoRA", rank=1, scale=1.0, change_norm=change_norm, weight_norm=2.0
    )


def test_the_spread_over_layers_is_told():
    check = check_change([layer("a", 1.0), layer("b", 0.5), layer("c", 0.2)])
    assert check.status == "passed"
    assert check.figures["relative_median"] == 0.25
    assert check.detail.startswith("10.00% to 50.00%")


def test_layers_that_are_not_moved_are_named_and_counted():
    check = check_change([layer(name, 0.0) for name in "abcd"] + [layer("e", 1.0)])
    assert check.status == "noted"
    assert "zero on 4 layers: a, b, c and 1 more" in check.detail
    assert check_change([layer("a", 0.0)]).status == "failed"


def test_an_untrained_dora_layer_does_nothing_though_it_rounds():
    weight = drawn(12, 8)
    direction = LowRank(down=drawn(3, 8), up=torch.zeros(12, 3), alpha=2.0)
    change = Decomposed(direction=direction, magnitude=weight.norm(dim=1) * (1 + 1e-7))
    measured = measure_change("unet.x", change, weight.shape, weight)
    assert measured.change_norm > 0
    assert check_change([measured]).status == "failed"
