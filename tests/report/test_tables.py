import csv

import pytest

from rasengan_xl.report.data_tables import DataTable, write_tables
from rasengan_xl.report.measure_table import group_measures, make_row, tabulate_measures
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
    assert next(iter(groups)) == "Loss on pictures never trained on"
    row = next(iter(groups.values()))[0]
    assert list(row.cells) == ["base", "lora", "dora"]
    cell = row.cells["lora"]
    assert (cell.value, cell.interval) == ("0.1182", "[0.1161,\N{NO-BREAK SPACE}0.1203]")
    assert "3\N{NO-BREAK SPACE}seeds" in cell.sample
    assert cell.exact == "0.1182"


def test_a_figure_that_was_not_repeated_says_so():
    measure = build_measures(("lora",))[0]
    measure = measure.model_copy(update={"arms": {"lora": estimate(0.1, None, seeds=1)}})
    assert make_row(measure).cells["lora"].interval == "no interval: not repeated"


def test_whiskers_lie_on_the_scale_of_their_row():
    cells = make_row(build_measures(("lora", "dora"))[0]).cells
    assert cells["base"].whisker.high == 100
    assert cells["dora"].whisker.low == 0
    for cell in cells.values():
        assert 0 <= cell.whisker.low < cell.whisker.value < cell.whisker.high <= 100


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
    assert table.measures[0][0] == "style_distance"
    assert table.pairs == [("lora", "dora")]
    assert len(tabulate_verdicts(comparison).rows) == len(comparison.verdicts)
