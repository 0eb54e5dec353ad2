import re

import pytest

from rasengan_xl.report.loss_charts import draw_losses, list_losses
from rasengan_xl.report.loss_curves import gather_checkpoints
from rasengan_xl.report.reading import LossHistory, read_histories
from rasengan_xl.report.strata_chart import draw_strata, list_strata
from rasengan_xl.report.svg import COLOURS, colour_of, marker_of
from rasengan_xl.report.verdict_chart import draw_verdicts

from .sample import (
    ARMS,
    STEPS,
    build_arm,
    build_comparison,
    build_run,
    build_strata,
    build_verdict,
    estimate,
)


def test_losses_are_drawn_for_every_arm_and_their_differences_for_all_but_the_first(
    rich_comparison, rich_folder
):
    losses, differences, on_the_way = draw_losses(
        rich_comparison, read_histories(rich_comparison, rich_folder)
    )
    assert [name for _, name in losses.series] == list(ARMS)
    assert differences.series == [(1, ARMS[1]), (2, ARMS[2]), (3, ARMS[3])]
    assert losses.wide.count('data-series="0"') == 4  # three seeds and their mean
    assert losses.table.rows[-1][0] == STEPS
    assert [row[0] for row in on_the_way.table.rows] == [30, 60, 90, 120]


def test_one_seed_is_not_called_a_mean():
    arm = build_arm("lora", [build_run("lora", checkpoints=[])])
    comparison = build_comparison(arm)
    (chart,) = draw_losses(comparison, {arm.runs[0].run: LossHistory(losses={1: 0.2, 2: 0.1})})
    assert "of one training seed" in chart.caption
    assert chart.wide.count('data-series="0"') == 1


def test_no_step_draws_nothing_and_one_step_is_drawn():
    comparison = build_comparison(build_arm("lora", [build_run("lora", checkpoints=[])]))
    run = comparison.arms[0].runs[0].run
    assert draw_losses(comparison, {run: LossHistory(losses={})}) == []
    assert draw_losses(comparison, {run: LossHistory(losses={1: 0.3})})[0].narrow


def test_every_loss_is_listed_as_it_was_measured(rich_comparison, rich_folder):
    histories = read_histories(rich_comparison, rich_folder)
    rows = list_losses(rich_comparison, histories).rows
    assert len(rows) == 11 * STEPS + 8
    assert ("lora", 1, 7, histories["arms/lora/seed-1"].losses[7]) in rows


def test_strata_are_drawn_as_shares_of_the_base(rich_comparison):
    chart = draw_strata(rich_comparison)
    assert chart is not None
    assert [name for _, name in chart.series] == list(ARMS)
    assert "percent of the base" in chart.caption


def test_every_stratum_is_listed_with_what_is_drawn(rich_comparison):
    table = list_strata(rich_comparison)
    assert len(table.rows) == 5 * 5
    (row,) = [row for row in table.rows if row[:2] == (250, "dora")]
    listed = dict(zip(table.columns, row, strict=True))
    (stratum,) = [stratum for stratum in rich_comparison.strata if stratum.timestep == 250]
    assert listed["difference_to_base"] == stratum.differences["dora"].value
    assert listed["change_percent"] == pytest.approx(
        100 * stratum.differences["dora"].value / stratum.base.value
    )
    assert listed["change_percent_low"] < listed["change_percent"]


def test_no_strata_draw_nothing():
    assert draw_strata(build_comparison(build_arm("lora"))) is None


def test_a_pair_that_was_told_apart_has_the_colour_of_the_better_arm():
    arms = [build_arm("lora"), build_arm("dora")]
    told = draw_verdicts(build_comparison(*arms, verdicts=[build_verdict("lora", "dora", 0.01)]))
    tied = draw_verdicts(build_comparison(*arms, verdicts=[build_verdict("lora", "dora", 0.0)]))
    assert told is not None
    assert tied is not None
    assert "var(--arm-1)" in told.wide
    assert "var(--arm-" not in tied.wide


def test_a_pair_that_was_not_judged_has_a_mark_of_its_own():
    arms = [build_arm("lora"), build_arm("dora")]
    verdict = build_verdict("lora", "dora", 0.01, outcome="not judged", seeds=1)
    chart = draw_verdicts(build_comparison(*arms, verdicts=[verdict]))
    tied = draw_verdicts(build_comparison(*arms, verdicts=[build_verdict("lora", "dora", 0.0)]))
    assert chart is not None
    assert tied is not None
    assert chart.caption.endswith("A cross says that a pair was not judged.")
    assert "over pictures alone" in chart.caption
    assert "cross" not in tied.caption
    assert "var(--arm-" not in chart.wide


def test_a_chart_of_many_pairs_is_as_high_on_a_phone_as_they_need():
    names = [f"a-rather-long-name-of-arm-{number}" for number in range(6)]
    pairs = [(a, b) for a in names for b in names if a < b]
    verdicts = [build_verdict(first, second, 0.01) for first, second in pairs]
    chart = draw_verdicts(build_comparison(*map(build_arm, names), verdicts=verdicts))
    assert chart is not None
    height = int(re.search(r'viewBox="0 0 370 (\d+)"', chart.narrow)[1])
    assert height > 40 * len(pairs)
    assert names[0] not in chart.narrow
    assert "a-rathe\N{HORIZONTAL ELLIPSIS}-arm-0" in chart.narrow


def test_a_base_without_loss_has_no_share():
    comparison = build_comparison(build_arm("lora"), strata=build_strata(("lora",)))
    nought = [
        stratum.model_copy(update={"base": estimate(0.0)}) if place == 0 else stratum
        for place, stratum in enumerate(comparison.strata)
    ]
    chart = draw_strata(comparison.model_copy(update={"strata": nought}))
    assert chart is not None
    rows = [row for row in chart.table.rows if row[1] == "lora"]
    assert rows[0][-3:] == (None, None, None)
    assert None not in rows[1][-3:]


def test_held_out_losses_on_the_way_are_marked_with_their_errors(rich_comparison):
    (curve, *_) = gather_checkpoints(rich_comparison)
    assert curve.errors == pytest.approx(dict.fromkeys((30, 60, 90, 120), 0.002))
    on_the_way = draw_losses(
        rich_comparison,
        {run.run: LossHistory(losses={}) for arm in rich_comparison.arms for run in arm.runs},
    )[-1]
    assert on_the_way.wide.count('data-series="0"') == 4 + 4 * 3  # lines, and a mark's three parts


def test_arms_beyond_the_colours_have_other_shapes():
    looks = {(colour_of(place), marker_of(place)) for place in range(COLOURS**2)}
    assert len(looks) == COLOURS**2


def test_no_verdict_draws_nothing():
    assert draw_verdicts(build_comparison(build_arm("lora"), verdicts=[])) is None
