"""How far each pair of arms lies apart in the primary measure."""

from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.evaluation.records import Measure, Verdict
from rasengan_xl.report.arms import find_primary, list_verdicts, place_arms
from rasengan_xl.report.charting import WIDE, make_chart
from rasengan_xl.report.data_tables import DataTable
from rasengan_xl.report.numbers import write_within
from rasengan_xl.report.svg import (
    COLOURS,
    INK,
    MARKER_SIZES,
    MARKERS,
    PAPER,
    SOFT,
    Chart,
    Size,
    colour_of,
)

_ROW_HEIGHT = 34


def draw_verdicts(comparison: Comparison) -> Chart | None:
    """Draw the difference of every pair of arms in the primary measure, with its interval."""
    primary = find_primary(comparison)
    verdicts = list_verdicts(comparison, primary.key) if primary else []
    if primary is None or not verdicts:
        return None
    side = "Left" if primary.direction == "lower" else "Right"
    title = f"Differences in {write_within(primary.label)}"
    return make_chart(
        partial(_draw, verdicts=verdicts, primary=primary, places=place_arms(comparison)),
        Size(width=WIDE.width, height=80 + _ROW_HEIGHT * len(verdicts)),
        title=title,
        caption=f"The first arm's value less the second's, paired by seed and picture, with 95 % "
        f"intervals, not corrected. {side} of nought the first is better. A filled mark has the "
        "colour and shape of the better arm; a hollow one says that the pair was not told apart.",
        table=_tabulate(title, verdicts),
        series=[],
    )


def _draw(
    figure: Figure,
    size: Size,
    *,
    verdicts: Sequence[Verdict],
    primary: Measure,
    places: Mapping[str, int],
) -> None:
    axes = figure.add_subplot()
    axes.axvline(0, color=SOFT, linewidth=1.4)
    for row, verdict in enumerate(verdicts):
        _draw_row(axes, row, verdict, places)
    joint = "\nless " if size.narrow else " less "
    axes.set_yticks(
        range(len(verdicts)),
        [f"{verdict.first}{joint}{verdict.second}" for verdict in verdicts],
        color=INK,
        fontsize=11 if size.narrow else 12.5,
    )
    axes.set_ylim(len(verdicts) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=3 if size.narrow else 7)
    unit = f" ({primary.unit})" if primary.unit else ""
    axes.set_xlabel(f"difference in {write_within(primary.label)}{unit}", loc="right")


def _draw_row(axes: Axes, row: int, verdict: Verdict, places: Mapping[str, int]) -> None:
    low = verdict.difference if verdict.low is None else verdict.low
    high = verdict.difference if verdict.high is None else verdict.high
    told = verdict.outcome in ("better", "worse")
    place = places[verdict.first if verdict.outcome == "better" else verdict.second] % COLOURS
    colour = colour_of(place) if told else SOFT
    axes.plot((low, high), (row, row), color=colour, linewidth=2.4)
    axes.plot(
        [verdict.difference],
        [row],
        marker=MARKERS[place] if told else "o",
        color=colour if told else PAPER,
        markeredgecolor=PAPER if told else SOFT,
        markeredgewidth=1.2 if told else 1.6,
        markersize=MARKER_SIZES[place] if told else 8,
    )


def _tabulate(title: str, verdicts: Sequence[Verdict]) -> DataTable:
    return DataTable(
        name="differences",
        title=title,
        columns=("first", "second", "difference", "low", "high", "outcome", "pictures", "seeds"),
        rows=[
            (v.first, v.second, v.difference, v.low, v.high, v.outcome, v.pictures, v.seeds)
            for v in verdicts
        ],
    )
