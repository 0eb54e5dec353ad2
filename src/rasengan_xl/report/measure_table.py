"""The table of measures: base and arms, each figure with its interval and its n."""

from collections.abc import Sequence
from dataclasses import dataclass

from rasengan_xl.config.comparison_settings import BASE
from rasengan_xl.evaluation.records import Estimate, Measure
from rasengan_xl.report.data_tables import DataTable
from rasengan_xl.report.numbers import half_width, write_interval, write_sample, write_value

GROUPS = {
    "loss": "Loss on pictures never trained on",
    "pictures": "Pictures drawn",
    "captions": "Captions followed",
    "cost": "Cost",
}
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

    label: str
    note: str
    direction: str
    cells: dict[str, Cell]


def group_measures(measures: Sequence[Measure]) -> dict[str, list[Row]]:
    """Group the rows of the table as a reader looks for them."""
    grouped = {
        title: [make_row(measure) for measure in measures if measure.group == group]
        for group, title in GROUPS.items()
    }
    return {title: rows for title, rows in grouped.items() if rows}


def make_row(measure: Measure) -> Row:
    """Write out one measure."""
    estimates = {**({BASE: measure.base} if measure.base else {}), **measure.arms}
    ends = [end for e in estimates.values() for end in (e.low, e.value, e.high) if end is not None]
    scale = (min(ends), max(ends)) if len(estimates) > 1 and min(ends) < max(ends) else None
    unit = f"{measure.label} ({measure.unit})" if measure.unit else measure.label
    return Row(
        label=unit,
        note=measure.note,
        direction=DIRECTIONS[measure.direction],
        cells={name: write_cell(each, scale) for name, each in estimates.items()},
    )


def write_cell(estimate: Estimate, scale: tuple[float, float] | None = None) -> Cell:
    """Write out one figure.

    Args:
        estimate: The figure.
        scale: Least and largest value of its row; without, no whisker is laid out.
    """
    reach = half_width(estimate.low, estimate.high)
    return Cell(
        value=write_value(estimate.value, "", reach),
        interval=write_interval(estimate.low, estimate.high) or "no interval: not repeated",
        within=_write_quartiles(estimate),
        sample=write_sample(estimate.pictures, estimate.seeds),
        exact=f"{estimate.value!r}",
        whisker=_lay_out(estimate, *scale) if scale else None,
    )


def _write_quartiles(estimate: Estimate) -> str:
    if estimate.p25 is None or estimate.p75 is None:
        return ""
    ends = write_interval(estimate.p25, estimate.p75).strip("[]").replace(", ", " to ")
    return f"quartiles {ends}, n = {estimate.timed:,}"


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
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    places = [round(100 * (v - least) / (largest - least), 2) for v in (low, estimate.value, high)]
    return Whisker(low=places[0], value=places[1], high=places[2])
