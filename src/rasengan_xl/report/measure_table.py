"""The table of measures: base and arms, each figure with its interval and its n."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rasengan_xl.config.comparison_settings import BASE
from rasengan_xl.evaluation.records import Estimate, Measure
from rasengan_xl.report.data_tables import DataTable
from rasengan_xl.report.numbers import (
    choose_decimals,
    half_width,
    write_at,
    write_counted,
    write_interval,
    write_n,
    write_sample,
    write_value,
)

GROUPS = {
    "loss": "Loss on pictures never trained on",
    "pictures": "Pictures drawn",
    "captions": "Captions followed",
    "cost": "Cost",
}
DETAILS = "Captions followed, attribute by attribute"
_DETAIL = "fidelity_"
NOT_REPEATED = "no interval: not repeated"
ALL_ALIKE = "all alike"
DIRECTIONS = {
    "lower": "\N{DOWNWARDS ARROW} lower is better",
    "higher": "\N{UPWARDS ARROW} higher is better",
    "neither": "not judged",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Whisker:
    """Where a value and its interval lie on the scale of their row, in percent."""

    low: float
    value: float
    high: float
    beyond: str = ""
    """`left` or `right`, where the value lies beyond the scale: an arrow at that edge."""

    @property
    def width(self) -> float:
        """Length of the interval."""
        return round(self.high - self.low, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One figure, written out."""

    value: str
    interval: str
    within: str
    """Quartiles within runs, and over how many times; empty where the figure is no median."""
    sample: str
    exact: str
    whisker: Whisker | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measure of base and arms; no cell where there is no figure."""

    key: str
    label: str
    note: str
    direction: str
    cells: dict[str, Cell]

    @property
    def said(self) -> tuple[str, ...]:
        """Return what all cells say alike, and need not repeat."""
        return _find_alike(self.cells.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows of one kind, and what is true of all their cells and so is said once."""

    title: str
    rows: list[Row]
    said: tuple[str, ...]
    """Texts that their cells need not repeat."""


def group_measures(measures: Sequence[Measure]) -> list[Group]:
    """Group the rows of the table as a reader looks for them."""
    grouped = {
        title: [make_row(m) for m in measures if m.group == group and not is_detail(m)]
        for group, title in GROUPS.items()
    }
    return [_make_group(title, rows) for title, rows in grouped.items() if rows]


def group_details(measures: Sequence[Measure]) -> list[Group]:
    """Group the rows that only a closer look is after."""
    rows = [make_row(measure) for measure in measures if is_detail(measure)]
    return [_make_group(DETAILS, rows)] if rows else []


def is_detail(measure: Measure) -> bool:
    """Tell whether it is a part of another measure: of one attribute of captions."""
    return measure.key.startswith(_DETAIL)


def _make_group(title: str, rows: list[Row]) -> Group:
    cells = [pair for row in rows for pair in row.cells.items()]
    return Group(title=title, rows=rows, said=_find_alike(cells))


def _find_alike(cells: Iterable[tuple[str, Cell]]) -> tuple[str, ...]:
    """Return what all cells say alike; the base has no seeds, and may say otherwise.

    Args:
        cells: With the name of their column.
    """
    named = list(cells)
    of_arms = [cell for name, cell in named if name != BASE]
    intervals = {cell.interval for _, cell in named}
    samples = {cell.sample for cell in of_arms}
    return (
        *(intervals if intervals == {NOT_REPEATED} else ()),
        *(samples if len(of_arms) > 1 and len(samples) == 1 else ()),
    )


def make_row(measure: Measure) -> Row:
    """Write out one measure."""
    estimates = {**({BASE: measure.base} if measure.base else {}), **measure.arms}
    # Over arms alone: beside a base that is far off, all of them would look alike.
    arms = measure.arms.values()
    ends = [end for e in arms for end in (e.low, e.value, e.high) if end is not None]
    scale = (min(ends), max(ends)) if len(arms) > 1 and min(ends) < max(ends) else None
    timed = "picture" if "picture" in measure.key else "step"
    unit = f"{measure.label} ({measure.unit})" if measure.unit else measure.label
    return Row(
        key=measure.key,
        label=unit,
        note=measure.note,
        direction=DIRECTIONS[measure.direction],
        cells={name: write_cell(each, scale, timed) for name, each in estimates.items()},
    )


def write_cell(
    estimate: Estimate, scale: tuple[float, float] | None = None, timed: str = "step"
) -> Cell:
    """Write out one figure.

    Args:
        estimate: The figure.
        scale: Least and largest value of its row; without, no whisker is laid out.
        timed: What was timed, where something was.
    """
    reach = half_width(estimate.low, estimate.high)
    return Cell(
        value=write_value(estimate.value, "", reach),
        interval=_write_interval(estimate),
        within=_write_quartiles(estimate, timed),
        sample=_write_sample(estimate, timed),
        exact=f"{estimate.value!r}",
        whisker=_lay_out(estimate, *scale) if scale else None,
    )


def _write_interval(estimate: Estimate) -> str:
    """Write an interval, or why there is none: resampling what is all alike tells nothing."""
    flat = estimate.low is None or estimate.low == estimate.high
    if flat and estimate.pictures > 1:
        return ALL_ALIKE
    return write_interval(estimate.low, estimate.high) or NOT_REPEATED


def _write_quartiles(estimate: Estimate, timed: str) -> str:
    """Write quartiles to the decimals of their median, or to more if they would look alike."""
    if estimate.p25 is None or estimate.p75 is None:
        return ""
    decimals = max(
        choose_decimals(estimate.value, half_width(estimate.low, estimate.high)),
        choose_decimals(estimate.value, half_width(estimate.p25, estimate.p75)),
    )
    low, high = (write_at(end, decimals) for end in (estimate.p25, estimate.p75))
    # Of what was timed without a training seed, the sample says how many.
    of = f" of {write_counted(estimate.timed, timed)}" if estimate.seeds else ""
    return f"quartiles {low} to {high}{of}"


def _write_sample(estimate: Estimate, timed: str) -> str:
    if estimate.timed and not estimate.seeds and not estimate.pictures:
        return f"{write_n(estimate.timed)} {timed}s timed"
    return write_sample(estimate.pictures, estimate.seeds)


def tabulate_measures(measures: Sequence[Measure]) -> DataTable:
    """List every figure of the table."""
    return DataTable(
        name="measures",
        title="Measures",
        columns=(
            *("measure", "unit", "direction", "group", "arm"),
            *("value", "low", "high", "pictures", "seeds", "p25", "p75", "timed"),
        ),
        rows=[
            (
                *(m.key, m.unit, m.direction, m.group, name, *list_estimate(estimate)),
                *(estimate.p25, estimate.p75, estimate.timed or None),
            )
            for m in measures
            for name, estimate in (*(((BASE, m.base),) if m.base else ()), *m.arms.items())
        ],
    )


def list_estimate(estimate: Estimate) -> tuple[float | int | None, ...]:
    """List value, both ends of its interval, and both counts."""
    return estimate.value, estimate.low, estimate.high, estimate.pictures, estimate.seeds


def _lay_out(estimate: Estimate, least: float, largest: float) -> Whisker:
    """Place a value and its interval; what lies beyond the scale is cut off at its edge."""
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    places = [100 * (end - least) / (largest - least) for end in (low, estimate.value, high)]
    beyond = "left" if places[1] < 0 else "right" if places[1] > 100 else ""
    low, value, high = (round(min(100, max(0, place)), 2) for place in places)
    return Whisker(low=low, value=value, high=high, beyond=beyond)
