import pytest

from rasengan_xl.report.loss_curves import (
    MOST_POINTS,
    average,
    choose_window,
    find_range,
    gather_curves,
    smooth,
    thin,
)
from rasengan_xl.report.reading import LossHistory

from .sample import build_arm, build_comparison, build_run, build_summary


def histories(comparison, losses=None):
    losses = losses or {1: 0.3, 2: 0.2, 3: 0.1}
    return {r.run: LossHistory(losses=losses) for arm in comparison.arms for r in arm.runs}


def test_the_mean_is_over_the_runs_that_went_on_to_the_end():
    assert average([{1: 1.0, 2: 2.0}, {1: 3.0, 2: 4.0}, {1: 100.0}]) == {1: 2.0, 2: 3.0}
    assert average([]) == {}


def test_every_arm_has_a_line_for_each_seed():
    comparison = build_comparison(build_arm("lora"), build_arm("dora"))
    lora, dora = gather_curves(comparison, histories(comparison))
    assert (lora.name, lora.index, sorted(lora.seeds)) == ("lora", 0, [0, 1, 2])
    assert dora.mean == pytest.approx({1: 0.3, 2: 0.2, 3: 0.1})


def test_differences_are_taken_seed_by_seed_from_the_first_arm():
    comparison = build_comparison(build_arm("lora"), build_arm("dora"))
    losses = histories(comparison)
    losses["arms/dora/seed-1"] = LossHistory(losses={1: 0.5, 2: 0.2, 9: 1.0})
    (dora,) = gather_curves(comparison, losses, less_first=True)
    assert dora.seeds[1] == pytest.approx({1: 0.2, 2: 0.0})


def test_runs_that_were_not_shown_the_same_are_not_subtracted():
    other = build_run("dora", 0, summary=build_summary("dora", 0, trace_hash="another"))
    comparison = build_comparison(
        build_arm("lora"), build_arm("dora", [other, build_run("dora", 1)])
    )
    (dora,) = gather_curves(comparison, histories(comparison), less_first=True)
    assert list(dora.seeds) == [1]


def test_smoothing_leaves_a_constant_alone_and_one_step_changes_nothing():
    constant = dict.fromkeys(range(50), 0.25)
    assert smooth(constant, 9) == pytest.approx(constant)
    assert smooth({1: 0.3, 2: 0.1}, 1) == pytest.approx({1: 0.3, 2: 0.1})


def test_a_long_run_is_thinned_and_keeps_its_last_step():
    steps, losses = thin({step: step / 10 for step in range(1, 5001)})
    assert len(steps) == len(losses) <= MOST_POINTS
    assert (steps[-1], losses[-1]) == (5000, 500.0)
    assert thin({}) == ([], [])


def test_a_run_that_diverges_does_not_flatten_the_others():
    usual = {step: 0.1 + step / 1000 for step in range(100)}
    low, high, leaves = find_range([usual, dict(usual)])
    assert low < min(usual.values())
    assert high > max(usual.values())
    assert not leaves
    low, high, leaves = find_range([usual, dict(usual), {1: 50.0}])
    assert leaves
    assert high < 1


def test_a_flat_line_has_a_range():
    low, high, leaves = find_range([{1: 0.2}])
    assert low < 0.2 < high
    assert not leaves


def test_all_lines_share_an_odd_window():
    comparison = build_comparison(build_arm("lora"))
    losses = histories(comparison, dict.fromkeys(range(300), 0.1))
    assert choose_window(gather_curves(comparison, losses)) == 25
    assert choose_window([]) == 1
