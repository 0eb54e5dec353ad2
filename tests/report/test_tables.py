import csv

import pytest

from rasengan_xl.report.data_tables import DataTable, write_tables
from rasengan_xl.report.measure_table import (
    group_details,
    group_measures,
    make_row,
    tabulate_measures,
    write_cell,
)
from rasengan_xl.report.verdict_table import make_verdict_table, tabulate_verdicts

from .sample import build_arm, build_comparison, build_measures, build_verdict, estimate


def read(file):
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.reader(text))


def test_a_table_is_written_unrounded_and_an_empty_one_is_removed(tmp_path):
    table = DataTable(name="t", title="T", columns=("a", "b"), rows=[(0.1 + 0.2, 'x,"y')])
    (file,) = write_tables([table], tmp_path)
    assert read(file) == [["a", "b"], ["0.30000000000000004", 'x,"y']]
    empty = DataTable(name="t", title="T", columns=("a",), rows=[])
    assert write_tables([empty], tmp_path) == []
    assert not file.exists()


def test_measures_are_grouped_and_each_figure_has_its_interval_and_n():
    groups = group_measures(build_measures(("lora", "dora")))
    assert groups[0].title == "Loss on pictures never trained on"
    row = groups[0].rows[0]
    assert list(row.cells) == ["base", "lora", "dora"]
    cell = row.cells["lora"]
    assert (cell.value, cell.interval) == ("0.1182", "[0.1161,\N{NO-BREAK SPACE}0.1203]")
    assert "3\N{NO-BREAK SPACE}seeds" in cell.sample
    assert cell.exact == "0.1182"


def test_a_figure_that_was_not_repeated_says_so():
    measure = build_measures(("lora",))[0]
    measure = measure.model_copy(
        update={"arms": {"lora": estimate(0.1, None, pictures=0, seeds=1)}}
    )
    assert make_row(measure).cells["lora"].interval == "no interval: not repeated"


def test_whiskers_lie_on_the_scale_of_their_row():
    cells = make_row(build_measures(("lora", "dora"))[0]).cells
    assert cells["lora"].whisker.high == 100
    assert cells["dora"].whisker.low == 0
    for cell in (cells["lora"], cells["dora"]):
        assert 0 <= cell.whisker.low < cell.whisker.value < cell.whisker.high <= 100
        assert not cell.whisker.beyond


def test_a_base_beyond_the_arms_is_an_arrow_at_the_edge_and_does_not_squeeze_them():
    loss = build_measures(("lora", "dora"))[0]
    base = make_row(loss).cells["base"].whisker
    assert (base.value, base.beyond) == (100, "right")
    near = loss.model_copy(update={"base": estimate(0.1181)})
    assert make_row(near).cells["base"].whisker.beyond == ""
    below = loss.model_copy(update={"base": estimate(0.01)})
    assert make_row(below).cells["base"].whisker.beyond == "left"


def test_equal_figures_have_no_scale():
    measure = build_measures(("lora",))[0]
    same = {name: estimate(0.1, None) for name in ("a", "b")}
    row = make_row(measure.model_copy(update={"arms": same, "base": None}))
    assert all(cell.whisker is None for cell in row.cells.values())


def test_every_estimate_is_in_the_table_of_measures():
    measures = build_measures(("lora", "dora"))
    rows = tabulate_measures(measures).rows
    assert len(rows) == sum(len(m.arms) + (m.base is not None) for m in measures)
    assert rows[0][:6] == ("held_out_loss", "", "lower", "loss", "base", 0.1312)


@pytest.mark.parametrize(
    ("outcome", "symbol"),
    [
        ("better", "▲"),
        ("worse", "▼"),
        ("no detectable difference", "≈"),
        ("not judged", "\N{EN DASH}"),
    ],
)
def test_an_outcome_is_told_by_word_and_symbol(outcome, symbol):
    verdict = build_verdict("lora", "dora", 0.002, outcome=outcome)
    comparison = build_comparison(build_arm("lora"), build_arm("dora"), verdicts=[verdict])
    (cell,) = make_verdict_table(comparison).cells.values()
    assert (cell.symbol, cell.outcome) == (symbol, outcome)


def test_the_primary_measure_stands_first_among_verdicts():
    comparison = build_comparison(build_arm("lora"), build_arm("dora"), primary="style_distance")
    table = make_verdict_table(comparison)
    assert table.primary.measures == [("style_distance", "Distance to the style")]
    assert [columns.title for columns in table.others] == [
        "Loss on pictures never trained on",
        "Captions followed",
        "Cost",
    ]
    assert table.pairs == [("lora", "dora")]
    assert len(tabulate_verdicts(comparison).rows) == len(comparison.verdicts)


def test_parts_of_a_measure_have_columns_of_their_own_and_what_is_not_judged_is_named():
    fidelity = build_measures(("lora", "dora"))[2]
    hair = fidelity.model_copy(update={"key": "fidelity_hair_colour", "label": "Hair"})
    rate = fidelity.model_copy(update={"key": "rate", "label": "Rate"})
    verdicts = [
        build_verdict("lora", "dora", 0.01, measure="fidelity_hair_colour"),
        build_verdict("lora", "dora", 0.01, measure="rate", outcome="not judged"),
    ]
    arms = [build_arm("lora"), build_arm("dora")]
    comparison = build_comparison(*arms, measures=[fidelity, hair, rate], verdicts=verdicts)
    table = make_verdict_table(comparison)
    assert (table.primary, table.unjudged) == (None, ["Rate"])
    assert [columns.measures for columns in table.others] == [[("fidelity_hair_colour", "Hair")]]
    shown = [row.label for group in group_measures(comparison.measures) for row in group.rows]
    assert shown == ["Attributes drawn as asked", "Rate"]
    assert [row.label for group in group_details(comparison.measures) for row in group.rows] == [
        "Hair"
    ]


def test_what_all_cells_of_a_group_say_is_said_once():
    time = build_measures(("lora", "dora"))[-1]
    alike = {name: estimate(1.0, None, pictures=0, seeds=1) for name in ("lora", "dora")}
    (group,) = group_measures([time.model_copy(update={"arms": alike})])
    assert group.said == (
        "no interval: not repeated",
        "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}1\N{NO-BREAK SPACE}seed",
    )
    unlike = alike | {"dora": estimate(1.0, 0.1, pictures=0, seeds=2)}
    (group,) = group_measures([time.model_copy(update={"arms": unlike})])
    assert group.said == ()


@pytest.mark.parametrize("reach", [None, 0.0])
def test_a_share_of_all_pictures_is_called_all_alike_and_not_certain(reach):
    assert write_cell(estimate(1.0, reach, seeds=1)).interval == "all alike"


def test_quartiles_have_the_decimals_of_their_median():
    found = estimate(0.08842, None, pictures=0, seeds=1)
    timed = found.model_copy(update={"p25": 0.08546, "p75": 0.09681, "timed": 315})
    cell = write_cell(timed)
    assert (cell.value, cell.within) == ("0.08842", "quartiles 0.08546 to 0.09681 of 315 steps")
    unsure = write_cell(timed.model_copy(update={"low": 0.04, "high": 0.14, "seeds": 3}))
    assert (unsure.value, unsure.within) == ("0.09", "quartiles 0.085 to 0.097 of 315 steps")


def test_what_was_timed_without_a_seed_says_how_many():
    measure = build_measures(("lora",))[-1].model_copy(update={"key": "seconds_per_picture"})
    base = estimate(0.16, None, pictures=0, seeds=0)
    base = base.model_copy(update={"p25": 0.15, "p75": 0.17, "timed": 20})
    cell = make_row(measure.model_copy(update={"base": base})).cells["base"]
    assert cell.sample == "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}20 pictures timed"
    assert cell.within == "quartiles 0.1500 to 0.1700"


@pytest.mark.parametrize("words", ["=1+1", "+cmd", "-cmd", "@sum", "\t=1"])
def test_words_of_a_table_are_no_formula(tmp_path, words):
    table = DataTable(name="t", title="T", columns=("a", "b", "c"), rows=[(words, -0.5, "-0.5")])
    (file,) = write_tables([table], tmp_path)
    assert read(file)[1] == [f"'{words}", "-0.5", "-0.5"]
