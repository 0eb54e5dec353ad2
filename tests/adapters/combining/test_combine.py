from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rasengan_xl.adapters.changes import Decomposed, LowRank, weight_change
from rasengan_xl.adapters.combining.combine import Combination, combine
from rasengan_xl.adapters.combining.lower import lower
from rasengan_xl.adapters.low_rank import Limits, relative_distance
from rasengan_xl.adapters.writing.conversion import overall_residual
from rasengan_xl.errors import AdapterError

from ..writing.random_contents import ATTENTION, CONVOLUTION, TEXT, finish, random_contents

FIRST, SECOND = ATTENTION[0], ATTENTION[3]
LAYERS = (FIRST, CONVOLUTION)


@pytest.fixture(scope="module")
def of(mini_base):
    """Make a random adapter, another for each name."""

    def make(kind, name="a", layers=LAYERS, **shape):
        contents = random_contents(mini_base, kind, layers, **shape)
        if name != "a":
            flipped = {n: _flipped(change) for n, change in contents.changes.items()}
            contents = replace(contents, changes=flipped)
        return replace(contents, source=Path(f"{name}.safetensors"))

    return make


def _flipped(change):
    if isinstance(change, Decomposed):
        return replace(change, direction=_flipped(change.direction))
    if isinstance(change, LowRank):
        return replace(change, up=change.up.flip(0))
    return change


def change_of(contents, base, layer):
    return weight_change(contents.changes[layer], base.weight(layer))


def test_a_sum_of_loras_is_one_lora_to_rounding(of, mini_base):
    parts = [of("lora"), of("rslora", "b", rank=2, alpha=5.0), of("tucker", "c")]
    how = Combination(weights=(0.7, -0.3, 1.5))
    combined = combine(parts, how, mini_base)
    for layer in LAYERS:
        change = combined.changes[layer]
        assert isinstance(change, LowRank)
        assert change.rank == 4 + 2 + 4
        wanted = sum(
            w * change_of(part, mini_base, layer)
            for part, w in zip(parts, how.weights, strict=True)
        )
        assert relative_distance(change_of(combined, mini_base, layer), wanted) < 1e-6
    merged = "0.7 x a + -0.3 x b + 1.5 x c"
    assert combined.header == {"modelspec.merged_from": merged}


def test_adapters_of_any_kind_and_of_some_layers_are_summed(of, mini_base):
    layers = (FIRST, TEXT[0])
    parts = [of("dora", layers=layers), of("loha", "b", layers=(FIRST,))]
    combined = combine(parts, Combination(weights=(0.5, 2.0)), mini_base)
    assert list(combined.changes) == list(layers)
    wanted = 0.5 * change_of(parts[0], mini_base, FIRST) + 2 * change_of(parts[1], mini_base, FIRST)
    torch.testing.assert_close(change_of(combined, mini_base, FIRST), wanted)
    alone = combined.changes[TEXT[0]]
    assert isinstance(alone, Decomposed)  # is what it was, at a strength
    torch.testing.assert_close(
        weight_change(alone, mini_base.weight(TEXT[0])),
        0.5 * change_of(parts[0], mini_base, TEXT[0]),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr", "dense", "dora", "dora-by-input"])
@pytest.mark.parametrize("share", [0.5, -2.0])
def test_a_layer_that_one_adapter_alone_changes_takes_its_weight(of, mini_base, kind, share):
    parts = [of(kind, layers=(FIRST,)), of("lora", "b", layers=(SECOND,))]
    combined = combine(parts, Combination(weights=(share, 1.0)), mini_base)
    wanted = share * change_of(parts[0], mini_base, FIRST)
    assert relative_distance(change_of(combined, mini_base, FIRST), wanted) < 1e-5


def trimmed(change, density):
    """The largest numbers, as TIES keeps them (arXiv:2306.01708, section 4.2)."""
    least = change.abs().flatten().sort(descending=True).values[int(density * change.numel()) - 1]
    return torch.where(change.abs() >= least, change, 0)


def test_ties_keeps_the_largest_numbers_whose_sign_prevails(of, mini_base):
    parts = [of("lora"), of("lora", "b")]
    how = Combination(weights=(1.0, 0.5), method="ties", density=0.3)
    combined = combine(parts, how, mini_base)
    one, two = (trimmed(change_of(part, mini_base, FIRST), 0.3) for part in parts)
    sign = torch.where(one + two >= 0, 1.0, -1.0)
    agree = [(each.sign() == sign).float() for each in (one, two)]
    total = agree[0] * one + 0.5 * agree[1] * two
    wanted = total / (agree[0] + agree[1]).clamp(min=1)
    torch.testing.assert_close(change_of(combined, mini_base, FIRST), wanted)
    assert combined.header["modelspec.merged_from"].endswith("(TIES, density 0.3)")


def test_dare_keeps_numbers_by_a_chance_of_its_own_and_scales_them_up(of, mini_base):
    parts = [of("lora"), of("lora", "b", layers=(CONVOLUTION,))]

    def drop(seed):
        how = Combination(weights=(1.0, 1.0), method="dare", density=0.25, seed=seed)
        return change_of(combine(parts, how, mini_base), mini_base, FIRST)

    torch.manual_seed(1)
    dropped, state = drop(3), torch.get_rng_state()
    whole, kept = change_of(parts[0], mini_base, FIRST), dropped != 0
    assert 0.2 < kept.float().mean() < 0.3
    torch.testing.assert_close(dropped[kept], 4 * whole[kept])
    assert torch.equal(drop(3), dropped)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(drop(4), dropped)


def test_what_is_no_sum_of_loras_is_brought_to_a_rank_and_the_rest_is_told(of, mini_base):
    parts = [of("lora", layers=(FIRST, SECOND)), of("dora", "b", layers=(FIRST,))]
    combined = combine(parts, Combination(weights=(1.0, 1.0)), mini_base)
    lowered = finish(lower(combined, mini_base, None))
    (found,) = lowered.approximated
    assert (found.layer, found.rank) == (FIRST, 8)
    wanted = change_of(combined, mini_base, FIRST)
    told = relative_distance(change_of(lowered.contents, mini_base, FIRST), wanted)
    assert found.residual == pytest.approx(told)
    assert 0.01 < overall_residual(lowered.approximated) < 1
    assert lowered.contents.changes[SECOND].rank == 4
    nearer = finish(lower(combined, mini_base, Limits(residual=0.01)))
    assert all(each.residual < 0.01 for each in nearer.approximated)
    assert len(nearer.approximated) == 2


def test_svd_brings_a_sum_to_the_greatest_rank_of_its_parts(of, mini_base):
    combined = combine(
        [of("tucker"), of("lora", "b", rank=6)], Combination(weights=(1.0, 1.0)), mini_base
    )
    lowered = finish(lower(combined, mini_base, None, by_svd=True))
    assert [change.rank for change in lowered.contents.changes.values()] == [6, 6]
    assert all(0 < each.residual < 1 for each in lowered.approximated)


def test_what_cannot_be_combined_is_refused(of, mini_base):
    with pytest.raises(AdapterError, match="every weight is 0"):
        combine([of("lora"), of("lora", "b")], Combination(weights=(0.0, 0.0)), mini_base)
    with pytest.raises(AdapterError, match="b.safetensors: is a DoRA"):
        combine(
            [of("lora"), of("dora", "b")],
            Combination(weights=(1.0, 1.0)),
            replace(mini_base, stored=None),
        )
