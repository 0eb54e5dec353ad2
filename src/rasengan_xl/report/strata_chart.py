"""Held-out loss by timestep: where on the way from noise to picture an adapter gains."""

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.evaluation.records import Estimate, StratumLoss
from rasengan_xl.report.arms import place_arms, series_of
from rasengan_xl.report.charting import WIDE, draw_point, label_axes, make_chart, spread
from rasengan_xl.report.data_tables import DataTable
from rasengan_xl.report.svg import SOFT, Chart, Size, colour_of, dash_of, name_series

_ENDS = ("", "_low", "_high", "_pictures", "_seeds")


def draw_strata(comparison: Comparison) -> Chart | None:
    """Draw each arm's difference from the base, as a share of the base's loss there.

    Losses of early and late timesteps differ by orders of magnitude; shares can be read side by
    side.
    """
    measured = {
        name: 0
        for stratum in comparison.strata
        for name in stratum.differences
        if _compared(stratum, name)
    }
    series = series_of(measured, place_arms(comparison))
    if not series:
        return None

    return make_chart(
        partial(_draw, strata=comparison.strata, series=series),
        WIDE,
        title="Held-out loss by timestep, against the base",
        caption="Each arm's held-out loss less the unquantized base's, paired by picture, in "
        "percent of the base's mean loss at that timestep, with 95\N{NO-BREAK SPACE}% intervals "
        "that take that mean as exact. "
        "Below nought is better; points of one timestep are set apart sideways to be read.",
        table=list_strata(comparison),
        series=series,
    )


def list_strata(comparison: Comparison) -> DataTable:
    """List losses and differences of every arm at every timestep."""
    return DataTable(
        name="strata",
        title="Held-out loss by timestep",
        columns=(
            "timestep",
            "arm",
            *(f"{what}{end}" for what in ("loss", "difference_to_base") for end in _ENDS),
            *("change_percent", "change_percent_low", "change_percent_high"),
        ),
        rows=[
            row
            for stratum in comparison.strata
            for row in (
                (stratum.timestep, "base", *_row(stratum.base), *_row(None), None, None, None),
                *(
                    (
                        *(stratum.timestep, name, *_row(loss)),
                        *_row(stratum.differences.get(name)),
                        *(_share(stratum, name) if _compared(stratum, name) else (None,) * 3),
                    )
                    for name, loss in stratum.arms.items()
                ),
            )
        ],
    )


def _draw(
    figure: Figure,
    size: Size,
    *,
    strata: Sequence[StratumLoss],
    series: Sequence[tuple[int, str]],
) -> None:
    axes = figure.add_subplot()
    axes.axhline(0, color=SOFT, linewidth=1.4)
    steps = [stratum.timestep for stratum in strata]
    gap = (max(steps) - min(steps)) / max(1, len(steps) - 1) or 10
    for order, (place, name) in enumerate(series):
        shift = (order - (len(series) - 1) / 2) * gap * 0.36 / len(series)
        _draw_arm(axes, place, name, strata, shift)
    label_axes(
        axes, "timestep (0: clean, 1000: all noise)", "change from base (%)", narrow=size.narrow
    )
    axes.margins(x=0.05)
    axes.set_xticks(steps[:: max(1, len(steps) // (5 if size.narrow else 12))])


def _draw_arm(
    axes: Axes, place: int, name: str, strata: Sequence[StratumLoss], shift: float
) -> None:
    points = [
        (stratum.timestep + shift, _share(stratum, name))
        for stratum in strata
        if _compared(stratum, name)
    ]
    (line,) = axes.plot(
        [x for x, _ in points],
        [y[0] for _, y in points],
        color=colour_of(place),
        alpha=0.55,
        linewidth=1.4,
        linestyle=dash_of(place),
    )
    line.set_gid(name_series(place))
    for x, y in points:
        draw_point(axes, place, (x, x, x), y)


def _compared(stratum: StratumLoss, name: str) -> bool:
    """Tell whether there is a share of the base's loss: none of no loss."""
    return name in stratum.differences and stratum.base.value > 0


def _share(stratum: StratumLoss, name: str) -> tuple[float, float, float]:
    value, low, high = spread(stratum.differences[name])
    scale = 100 / stratum.base.value  # `_compared` has left out a base of nought
    return value * scale, low * scale, high * scale


def _row(estimate: Estimate | None) -> tuple[float | int | None, ...]:
    if estimate is None:
        return (None,) * len(_ENDS)
    return estimate.value, estimate.low, estimate.high, estimate.pictures, estimate.seeds
