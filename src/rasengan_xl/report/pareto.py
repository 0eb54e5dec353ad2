"""Quality against cost: which arms nothing else beats in both."""

from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.figure import Figure

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.evaluation.records import Estimate, Measure
from rasengan_xl.report.arms import find_memory, find_primary, find_time, place_arms, series_of
from rasengan_xl.report.charting import HALF, draw_point, label_axes, make_chart, spread
from rasengan_xl.report.data_tables import DataTable
from rasengan_xl.report.numbers import write_sample, write_within
from rasengan_xl.report.svg import INK, SOFT, Chart, Size


def draw_tradeoffs(comparison: Comparison) -> list[Chart]:
    """Draw the primary measure against memory and against time, as far as both were measured."""
    quality = find_primary(comparison)
    costs = (("memory", find_memory(comparison)), ("time", find_time(comparison)))
    if quality is None:
        return []
    places = place_arms(comparison)
    return [
        _draw_tradeoff(f"quality_against_{name}", quality, cost, places)
        for name, cost in costs
        if cost is not None and set(cost.arms) & set(quality.arms)
    ]


def find_front(quality: Measure, cost: Measure) -> list[str]:
    """Return the arms on the Pareto front, the cheapest first, going by the values alone.

    An arm is on it if no other is at least as good in both, and better in one.
    """
    sign = -1 if quality.direction == "higher" else 1
    both = {
        name: (cost.arms[name].value, sign * quality.arms[name].value)
        for name in quality.arms
        if name in cost.arms
    }
    return sorted(
        (
            name
            for name, (price, loss) in both.items()
            if not any(
                other[0] <= price and other[1] <= loss and other != (price, loss)
                for other in both.values()
            )
        ),
        key=lambda name: both[name],
    )


def _draw_tradeoff(key: str, quality: Measure, cost: Measure, places: Mapping[str, int]) -> Chart:
    series = series_of({name: 0 for name in quality.arms if name in cost.arms}, places)
    front = find_front(quality, cost)
    better = "higher" if quality.direction == "higher" else "lower"
    return make_chart(
        partial(_draw, quality=quality, cost=cost, series=series),
        HALF,
        title=f"{quality.label} against {write_within(cost.label)}",
        caption=(
            f"Left and {better} is better; whiskers are 95\N{NO-BREAK SPACE}% intervals. Rings "
            "mark arms that no other arm is at least as good as in both and better in one, by "
            "their values; whether a difference is more than chance is judged pair by pair below."
        ),
        table=_tabulate(key, quality, cost, front),
        series=series,
    )


def _draw(
    figure: Figure,
    size: Size,
    *,
    quality: Measure,
    cost: Measure,
    series: Sequence[tuple[int, str]],
) -> None:
    axes = figure.add_subplot()
    front = find_front(quality, cost)
    xs, ys = [[m.arms[name].value for name in front] for m in (cost, quality)]
    axes.plot(xs, ys, color=SOFT, linewidth=1.4, linestyle=(0, (2, 3)))
    axes.plot(xs, ys, "o", color="none", markeredgecolor=INK, markersize=19)
    # The legend has their names: words would hide marks that lie close together.
    for place, name in series:
        x, y = spread(cost.arms[name]), spread(quality.arms[name])
        draw_point(axes, place, x, y)
    label_axes(axes, _name(cost), _name(quality), narrow=size.narrow)
    axes.margins(x=0.12, y=0.16)


def _tabulate(key: str, quality: Measure, cost: Measure, front: list[str]) -> DataTable:
    names = [name for name in quality.arms if name in cost.arms]
    return DataTable(
        name=key,
        title=f"{quality.label} against {write_within(cost.label)}",
        columns=(
            "arm",
            *(f"{m.key}{end}" for m in (cost, quality) for end in ("", "_low", "_high", "_n")),
            "on_front",
        ),
        rows=[
            (name, *_row(cost.arms[name]), *_row(quality.arms[name]), name in front)
            for name in names
        ],
    )


def _row(estimate: Estimate) -> tuple[float | str | None, ...]:
    n = write_sample(estimate.pictures, estimate.seeds).removeprefix("n\xa0=\xa0")
    return estimate.value, estimate.low, estimate.high, n.replace("\xa0", " ")


def _name(measure: Measure) -> str:
    return f"{measure.label} ({measure.unit})" if measure.unit else measure.label
