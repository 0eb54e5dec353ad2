"""Each formula is held against an elementwise definition, or against PEFT's own layers."""

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, inject_adapter_in_model
from torch import nn

from rasengan_xl.adapters.changes import (
    Decomposed,
    Dense,
    Hadamard,
    Kronecker,
    LowRank,
    changed_weight,
    tensors_of,
    weight_change,
)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def low_rank(alpha=3.0, **changes):
    return LowRank(down=draw(2, 6), up=draw(5, 2), alpha=alpha, **changes)


def test_lora_is_scaled_by_alpha_over_rank_and_rslora_by_its_root():
    product = draw(5, 2) @ draw(2, 6)
    weight = draw(5, 6)
    torch.testing.assert_close(weight_change(low_rank(), weight), 1.5 * product)
    stabilized = weight_change(low_rank(rank_stabilized=True), weight)
    torch.testing.assert_close(stabilized, 3 / 2**0.5 * product)


def test_a_lora_of_a_convolution_is_two_convolutions_in_a_row():
    down, up, weight = draw(2, 3, 3, 3), draw(4, 2, 1, 1), draw(4, 3, 3, 3)
    change = weight_change(LowRank(down=down, up=up, alpha=2.0), weight)
    picture = draw(1, 3, 8, 8)
    in_a_row = torch.conv2d(torch.conv2d(picture, down), up)
    torch.testing.assert_close(torch.conv2d(picture, change), in_a_row, rtol=1e-4, atol=1e-4)


def test_a_core_is_a_third_convolution_between_both():
    down, mid, up = draw(2, 3, 1, 1), draw(2, 2, 3, 3), draw(4, 2, 1, 1)
    change = LowRank(down=down, mid=mid, up=up, alpha=2.0)
    picture = draw(1, 3, 8, 8)
    in_a_row = torch.conv2d(torch.conv2d(torch.conv2d(picture, down), mid), up)
    ours = torch.conv2d(picture, weight_change(change, draw(4, 3, 3, 3)))
    torch.testing.assert_close(ours, in_a_row, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", [nn.Linear(6, 8), nn.Conv2d(6, 8, 3)])
@pytest.mark.parametrize("cores", [False, True])
def test_loha_is_what_peft_makes_of_it(layer, cores):
    theirs = inject_adapter_in_model(
        LoHaConfig(r=2, alpha=3, target_modules=["0"], use_effective_conv2d=cores),
        nn.Sequential(layer),
    )[0]
    tensors = {name: p.data for name, p in theirs.named_parameters() if "hada" in name}
    for tensor in tensors.values():
        tensor.copy_(draw(*tensor.shape))
    named = {name.split(".")[0].removeprefix("hada_"): t for name, t in tensors.items()}
    change = Hadamard(
        first=(named["w1_a"], named["w1_b"]),
        second=(named["w2_a"], named["w2_b"]),
        cores=(named["t1"], named["t2"]) if "t1" in named else None,
        alpha=3.0,
    )
    assert ("t1" in named) == (cores and isinstance(layer, nn.Conv2d))
    assert change.rank == 2
    ours = weight_change(change, layer.weight.detach())
    torch.testing.assert_close(ours, theirs.get_delta_weight("default"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [nn.Linear(8, 12), nn.Conv2d(8, 12, 3)])
@pytest.mark.parametrize("decompose_both", [False, True])
@pytest.mark.parametrize("cores", [False, True])
@pytest.mark.parametrize("rank", [1, 50])
def test_lokr_is_what_peft_makes_of_it(layer, decompose_both, cores, rank):
    config = LoKrConfig(
        r=rank,
        alpha=3,
        target_modules=["0"],
        use_effective_conv2d=cores,
        decompose_both=decompose_both,
    )
    theirs = inject_adapter_in_model(config, nn.Sequential(layer))[0]
    tensors = {name: p.data for name, p in theirs.named_parameters() if "lokr" in name}
    for tensor in tensors.values():
        tensor.copy_(draw(*tensor.shape))
    named = {name.split(".")[0].removeprefix("lokr_"): t for name, t in tensors.items()}

    def factor(key):
        whole = named.get(key)
        return (named[f"{key}_a"], named[f"{key}_b"]) if whole is None else (whole,)

    change = Kronecker(first=factor("w1"), second=factor("w2"), core=named.get("t2"), alpha=3.0)
    # PEFT divides by its rank even where no factor has one; LyCORIS, whose files these are, not.
    scale = 1.0 if change.rank else rank / 3.0
    ours = weight_change(change, layer.weight.detach())
    torch.testing.assert_close(
        ours, theirs.get_delta_weight("default") * scale, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("norm_of", ["changed", "base"])
@pytest.mark.parametrize("axis", ["output", "input"])
def test_dora_gives_every_row_or_column_its_magnitude(axis, norm_of):
    weight, direction = draw(5, 6), low_rank()
    magnitude = draw(5 if axis == "output" else 6).abs()
    change = Decomposed(direction=direction, magnitude=magnitude, axis=axis, norm_of=norm_of)
    changed = weight + weight_change(direction, weight)
    expected = torch.empty(5, 6)
    for row in range(5):
        for column in range(6):
            place = (row, slice(None)) if axis == "output" else (slice(None), column)
            norm = (changed if norm_of == "changed" else weight)[place].norm()
            m = magnitude[row if axis == "output" else column]
            expected[row, column] = m * changed[row, column] / norm
    torch.testing.assert_close(changed_weight(change, weight), expected)
    torch.testing.assert_close(weight_change(change, weight), expected - weight)


def test_dora_of_a_convolution_takes_its_norm_over_the_kernel_too():
    weight, magnitude = draw(4, 3, 3, 3), draw(1, 4, 1, 1).abs()
    nothing = Dense(change=torch.zeros(4, 3, 3, 3))
    changed = changed_weight(Decomposed(direction=nothing, magnitude=magnitude), weight)
    torch.testing.assert_close(changed.flatten(1).norm(dim=1), magnitude.flatten())


def test_what_a_change_consists_of_is_counted_whole():
    change = Decomposed(direction=low_rank(), magnitude=draw(5))
    assert sum(t.numel() for t in tensors_of(change)) == 2 * 6 + 5 * 2 + 5
    pair = (draw(4, 2), draw(2, 6))
    assert len(list(tensors_of(Hadamard(first=pair, second=pair, alpha=1.0)))) == 4
