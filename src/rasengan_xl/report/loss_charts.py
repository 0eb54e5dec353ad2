"""Loss by step: every run faint, the mean of each arm bold."""

from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.report.charting import WIDE, draw_point, label_axes, make_chart
from rasengan_xl.report.data_tables import DataTable
from rasengan_xl.report.loss_curves import (
    ArmCurves,
    Losses,
    choose_window,
    find_range,
    gather_checkpoints,
    gather_curves,
    smooth,
    thin,
)
from rasengan_xl.report.numbers import write_counted, write_n
from rasengan_xl.report.reading import LossHistory
from rasengan_xl.report.svg import SOFT, Chart, Size, colour_of, dash_of, name_series

_BAR_GAP = 0.008
"""Between bars of two arms at one step, as a part of the longest run."""
SHOWN_STEPS = 10
"""Steps whose losses stand in the table under the chart."""


def draw_losses(comparison: Comparison, histories: Mapping[str, LossHistory]) -> list[Chart]:
    """Draw the training losses, and their differences from the first arm, which are less noisy.

    Args:
        comparison: Names arms and runs.
        histories: By the folder of the run.
    """
    charts: list[Chart] = []
    curves = gather_curves(comparison, histories)
    if curves:
        charts.append(
            _draw("training_loss_by_step", "Training loss", curves, "The loss of each step.")
        )
    differences = gather_curves(comparison, histories, less_first=True)
    if differences:
        first = comparison.arms[0].name
        charts.append(
            _draw(
                "training_loss_difference_by_step",
                f"Training loss less that of {first}",
                differences,
                f"Each run less {first}'s with the same seed, step by step, which takes away "
                "the noise that both share. Below nought is better.",
            )
        )
    if on_the_way := gather_checkpoints(comparison):
        lead = (
            f"Over the first rows of the held-out table ({_count_entries(comparison)}), at each "
            "checkpoint; bars are standard errors over pictures, set apart "
            "sideways to be read."
        )
        charts.append(_draw("held_out_loss_by_step", "Held-out loss on the way", on_the_way, lead))
    return charts


def list_losses(comparison: Comparison, histories: Mapping[str, LossHistory]) -> DataTable:
    """List every loss of every run, as it was measured."""
    return DataTable(
        name="training_loss",
        title="Training loss of every step",
        columns=("arm", "seed", "step", "loss"),
        rows=[
            (arm.name, run.seed, step, loss)
            for arm in comparison.arms
            for run in arm.runs
            for step, loss in histories[run.run].losses.items()
        ],
    )


def _draw(key: str, title: str, curves: Sequence[ArmCurves], lead: str) -> Chart:
    window = choose_window(curves)
    lines = [
        smooth(run, window) for arm in curves for run in (*arm.seeds.values(), arm.mean) if run
    ]
    nought: list[Losses] = [{0: 0.0}] if "difference" in key else []
    bars: list[Losses] = [
        {step: arm.mean[step] + sign * error for step, error in arm.errors.items()}
        for arm in curves
        for sign in (-1, 1)
        if arm.errors
    ]
    *limits, leaves = find_range([*lines, *bars, *nought])
    caption = f"{lead} {_describe_lines(curves, window)}"
    if leaves:
        caption += " A line that leaves the chart goes on above it."
    return make_chart(
        partial(_fill, curves=curves, window=window, limits=limits, y_label=title.lower()),
        WIDE,
        title=title,
        caption=caption,
        table=_tabulate(key, title, curves, window),
        series=[(arm.index, arm.name) for arm in curves],
    )


def _fill(
    figure: Figure,
    size: Size,
    *,
    curves: Sequence[ArmCurves],
    window: int,
    limits: Sequence[float],
    y_label: str,
) -> None:
    axes = figure.add_subplot()
    low, high = limits
    if low < 0 < high:
        axes.axhline(0, color=SOFT, linewidth=1.4)
    for order, arm in enumerate(curves):
        _draw_arm(axes, arm, window)
        _draw_errors(axes, arm, order - (len(curves) - 1) / 2)
    label_axes(axes, "optimizer step", y_label, narrow=size.narrow)
    axes.xaxis.set_major_locator(MaxNLocator(4 if size.narrow else 8, integer=True))
    axes.margins(x=0.015)
    axes.set_ylim(low, high)


def _count_entries(comparison: Comparison) -> str:
    counts = {p.n for arm in comparison.arms for run in arm.runs for p in run.checkpoints}
    return write_n(max(counts)) if len(counts) == 1 else f"{write_n(min(counts))} to {max(counts)}"


def _describe_lines(curves: Sequence[ArmCurves], window: int) -> str:
    smoothed = f"running means over {write_counted(window, 'step')}"
    lines = smoothed if window > 1 else "not smoothed"
    if all(len(arm.seeds) == 1 for arm in curves):
        return f"Lines are {lines}, of one training seed."
    return (
        f"Lines are {lines}: faint for each training seed, bold for the mean of the seeds that "
        "went on to the end."
    )


def _draw_arm(axes: Axes, arm: ArmCurves, window: int) -> None:
    colour = colour_of(arm.index)
    lines = [(smooth(run, window), 1.3, 0.38) for run in arm.seeds.values()]
    if len(arm.seeds) == 1:
        lines = []
    lines.append((smooth(arm.mean, window), 2.6, 1.0))
    for losses, width, opacity in lines:
        steps, values = thin(losses)
        (line,) = axes.plot(
            steps,
            values,
            color=colour,
            linewidth=width,
            alpha=opacity,
            linestyle=dash_of(arm.index) if opacity == 1 else "solid",
            marker="o" if len(steps) == 1 else None,
        )
        line.set_gid(name_series(arm.index))


def _draw_errors(axes: Axes, arm: ArmCurves, order: float) -> None:
    """Mark the points of the mean, set apart sideways by order so that bars can be read."""
    shift = order * max(arm.errors, default=0) * _BAR_GAP
    for step, error in arm.errors.items():
        value, x = arm.mean[step], step + shift
        draw_point(axes, arm.index, (x, x, x), (value, value - error, value + error))


def _tabulate(key: str, title: str, curves: Sequence[ArmCurves], window: int) -> DataTable:
    means = {arm.name: smooth(arm.mean, window) for arm in curves}
    steps = sorted({step for mean in means.values() for step in mean})
    stride = max(1, len(steps) // SHOWN_STEPS)
    shown = steps[::-1][::stride][::-1]
    return DataTable(
        name=key,
        title=f"{title}, mean over seeds, running mean over {write_counted(window, 'step')}",
        columns=("step", *(f"{arm.name} (seeds: {len(arm.seeds)})" for arm in curves)),
        rows=[(step, *(means[arm.name].get(step) for arm in curves)) for step in shown],
    )
