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
    INK,
    PAPER,
    SOFT,
    Chart,
    Size,
    colour_of,
    marker_of,
    marker_size_of,
)

_ROW_HEIGHT, _PHONE_ROW_HEIGHT = 34, 46
_FRAME_HEIGHT = 80
_LONGEST_NAME, _LONGEST_NAME_ON_PHONE = 28, 14
"""Of an arm beside the chart, in letters; the table under it has names in full."""
_MEANINGS = {
    "told": "A filled mark has the colour and shape of the better arm",
    "no detectable difference": "a hollow one says that the pair was not told apart",
    "not judged": "a cross says that a pair was not judged",
}


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
        Size(
            width=WIDE.width,
            height=_FRAME_HEIGHT + _ROW_HEIGHT * len(verdicts),
            phone_height=_FRAME_HEIGHT + _PHONE_ROW_HEIGHT * len(verdicts),
        ),
        title=title,
        caption=f"The first arm's value less the second's, paired by seed and picture, with "
        f"{_describe_intervals(verdicts)}. {side} of nought the first is better. "
        f"{_explain_marks(verdicts)}",
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
    longest = _LONGEST_NAME_ON_PHONE if size.narrow else _LONGEST_NAME
    axes.set_yticks(
        range(len(verdicts)),
        [joint.join(_shorten(name, longest) for name in (v.first, v.second)) for v in verdicts],
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
    marker = "X" if verdict.outcome == "not judged" else "o"
    place = places[verdict.first if verdict.outcome == "better" else verdict.second]
    colour = colour_of(place) if told else SOFT
    axes.plot((low, high), (row, row), color=colour, linewidth=2.4)
    axes.plot(
        [verdict.difference],
        [row],
        marker=marker_of(place) if told else marker,
        color=colour if told else PAPER,
        markeredgecolor=PAPER if told else SOFT,
        markeredgewidth=1.2 if told else 1.6,
        markersize=marker_size_of(place) if told else 8,
    )


def _describe_intervals(verdicts: Sequence[Verdict]) -> str:
    intervals = "95\N{NO-BREAK SPACE}% intervals"
    if all(verdict.seeds < 2 for verdict in verdicts):
        return f"{intervals} over pictures alone, which say nothing of another training seed"
    return f"{intervals}, not corrected for the number of pairs"


def _explain_marks(verdicts: Sequence[Verdict]) -> str:
    """Explain the marks that are drawn, and no other."""
    drawn = {v.outcome if v.outcome in _MEANINGS else "told" for v in verdicts}
    text = "; ".join(meaning for outcome, meaning in _MEANINGS.items() if outcome in drawn)
    return f"{text[:1].upper()}{text[1:]}."


def _shorten(name: str, longest: int) -> str:
    """Take the middle out of a long name; what tells arms apart is mostly at an end."""
    if len(name) <= longest:
        return name
    end = (longest - 1) // 2
    return f"{name[: longest - 1 - end]}\N{HORIZONTAL ELLIPSIS}{name[-end:]}"


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
