import pytest

from rasengan_xl.report.measurements import ARROW
from rasengan_xl.report.numbers import MISSING, write_n
from rasengan_xl.report.table import make_rows


@pytest.fixture
def rows(make_arm, make_failed_arm):
    arms = [make_arm("lora"), make_arm("dora", peak_memory_gib=20.628), make_failed_arm("qlora")]
    return {row.label: row for row in make_rows(arms)}


@pytest.mark.parametrize(
    ("label", "value", "detail"),
    [
        ("Trainable parameters", "23.2 M", "0.896 % of 2.59 B"),
        ("Adapter file", "92.9 MB", ""),
        ("Peak memory", "10.31 GiB", "11.03 GiB reserved"),
        ("Seconds per step", "0.138 s", f"0.134 to 0.147 s, {write_n(290)}"),
        ("Waiting for pictures", "0.123 %", f"at most 3.12 % of a step, {write_n(290)}"),
        ("Training loss", "0.1118", write_n(31)),
        (
            "Held-out loss",
            f"0.1312 {ARROW} 0.1188",
            f"\N{PLUS-MINUS SIGN} 0.0041 {ARROW} \N{PLUS-MINUS SIGN} 0.0037, {write_n(256)}",
        ),
        (
            "Change in held-out loss",
            "\N{MINUS SIGN}0.0124 \N{PLUS-MINUS SIGN} 0.0011",
            write_n(256),
        ),
        ("Best checkpoint", "step 1,200", f"held-out loss 0.1184, {write_n(128)}"),
        ("Trace hash", "9f31c07a", ""),
    ],
)
def test_every_figure_has_its_unit_its_spread_and_its_n(rows, label, value, detail):
    figure = rows[label].cells[0].figure
    assert figure.value == value
    assert figure.detail == detail


def test_a_failed_arm_has_an_empty_cell_in_every_row(rows):
    for row in rows.values():
        assert len(row.cells) == 3
        assert row.cells[2].figure.value == MISSING
        assert row.cells[2].share is None


def test_bars_are_relative_to_the_largest_and_factors_to_the_first(rows):
    first, second, _ = rows["Peak memory"].cells
    assert (first.share, second.share) == (0.5, 1.0)
    assert first.times.startswith("1.00")
    assert second.times.startswith("2.00")


def test_void_steps_are_told_where_there_were_any(make_arm):
    (row,) = [r for r in make_rows([make_arm(skipped_steps=2)]) if r.label == "Training loss"]
    assert row.cells[0].figure.detail == f"{write_n(31)}; fp16 overflow made 2 steps void"


def test_losses_have_no_bars(rows):
    assert all(cell.share is None for cell in rows["Training loss"].cells)


def test_the_kind_of_memory_is_named(rows):
    assert "cuda allocated" in rows["Peak memory"].note


def test_a_lone_arm_is_compared_with_nothing(make_arm):
    assert all(cell.times == "" for row in make_rows([make_arm()]) for cell in row.cells)


def test_no_arm_makes_rows_without_cells():
    assert all(row.cells == [] for row in make_rows([]))


def test_the_exact_number_is_kept(rows):
    assert rows["Trainable parameters"].cells[0].figure.exact == "23,224,320 of 2,590,688,004"
    assert rows["Trace hash"].cells[0].figure.exact == "9f31c07ab52e4d18"
