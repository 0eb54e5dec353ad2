import pytest
import torch

from rasengan_xl.sdxl.draws import (
    draw_noise,
    draw_timesteps,
    keyed_seed,
    offset_noise,
    timestep_span,
)


def test_a_key_decides_the_draw_and_global_chance_does_not():
    torch.manual_seed(1)
    one = draw_noise((4, 8, 8), "noise", 0, 1, "a")
    torch.manual_seed(2)
    assert torch.equal(draw_noise((4, 8, 8), "noise", 0, 1, "a"), one)


def test_every_part_of_a_key_matters():
    keys = [("noise", 0, 1), ("noise", 1, 1), ("noise", 0, 2), ("order", 0, 1), ("noise", 0, 1, 1)]
    assert len({keyed_seed(*key) for key in keys}) == len(keys)


def test_parts_of_a_key_do_not_run_together():
    assert keyed_seed("a", 1, 23) != keyed_seed("a", 12, 3)


@pytest.mark.parametrize(
    ("span", "count"),
    [
        (range(1000), 10),
        (range(1000), 7),
        (range(137, 1000), 64),
        (range(3, 10), 7),
        (range(3, 10), 16),
        (range(999, 1000), 3),
    ],
)
def test_every_stratum_of_the_span_is_drawn_exactly_once_a_step(span, count):
    for step in range(50):
        drawn = sorted(draw_timesteps(0, step, count, span, "stratified").tolist())
        for stratum, timestep in enumerate(drawn):
            # Whole timesteps that share anything with [stratum, stratum + 1) / count of the span.
            first = span.start + stratum * len(span) // count
            last = span.start + -(-(stratum + 1) * len(span) // count) - 1
            assert first <= timestep <= last


def test_strata_are_shuffled_anew_each_step_and_draws_differ_by_seed():
    steps = [draw_timesteps(0, step, 10, range(1000), "stratified") for step in range(2)]
    assert (steps[0] // 100).tolist() != (steps[1] // 100).tolist()
    assert (steps[0] // 100).tolist() != list(range(10))
    assert not torch.equal(steps[0], draw_timesteps(1, 0, 10, range(1000), "stratified"))


@pytest.mark.parametrize("sampling", ["stratified", "uniform"])
def test_timesteps_are_uniform_over_the_span_in_the_long_run(sampling):
    span = range(200, 211)
    steps = [draw_timesteps(1, step, 3, span, sampling) for step in range(4000)]
    drawn = torch.cat(steps)
    assert drawn.min() >= span.start
    assert drawn.max() < span.stop
    counts = torch.bincount(drawn - span.start, minlength=len(span))
    # 12,000 draws, 1091 of each with a deviation of 31.5 if independent; four of them.
    assert (counts - 12_000 / 11).abs().max() < 126


def test_uniform_timesteps_are_not_stratified():
    strata = [draw_timesteps(0, step, 4, range(1000), "uniform") // 250 for step in range(50)]
    assert any(len(set(drawn.tolist())) < 4 for drawn in strata)


@pytest.mark.parametrize(
    ("shares", "length", "expected"),
    [
        ((0.0, 1.0), 1000, range(1000)),
        ((0.3, 0.7), 1000, range(300, 700)),
        ((0.5, 0.5001), 1000, range(500, 501)),
        ((0.9999, 1.0), 1000, range(999, 1000)),
        ((0.0, 1.0), 7, range(7)),
    ],
)
def test_a_range_of_shares_is_a_span_of_timesteps_and_never_empty(shares, length, expected):
    assert timestep_span(shares, length) == expected


def test_offset_noise_shifts_each_channel_as_a_whole():
    noise, shift = draw_noise((4, 8, 8), "noise", 0), draw_noise((4,), "offset", 0)
    moved = offset_noise(noise, shift, 0.5) - noise
    for channel in range(4):
        torch.testing.assert_close(moved[channel], (0.5 * shift[channel]).expand(8, 8))
