"""The drawings of a page: each laid out for a wide screen and for a phone, with its caption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rasengan_xl.comparison.result import ArmResult
from rasengan_xl.report.curves import (
    HALF,
    NARROW,
    WIDE,
    Curve,
    Drawing,
    choose_window,
    draw_curves,
    subtract,
)
from rasengan_xl.report.intervals import IntervalDrawing, draw_intervals
from rasengan_xl.report.numbers import write_count, write_counted, write_n
from rasengan_xl.report.reading import LossHistory
from rasengan_xl.report.wording import saw_the_same


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveFigure:
    """Curves over steps, with what a reader must know of them."""

    wide: Drawing
    narrow: Drawing
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalFigure:
    """Intervals of the held-out loss, with what a reader must know of them."""

    wide: IntervalDrawing
    narrow: IntervalDrawing
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Every drawing that the measurements allow."""

    losses: CurveFigure | None
    differences: CurveFigure | None
    reference: str
    """The arm that differences are taken from."""
    intervals: IntervalFigure | None
    left_out: list[str]
    """What the drawings lack, one line per arm."""


def make_figures(arms: Sequence[ArmResult], histories: Mapping[str, LossHistory]) -> Figures:
    """Draw what was measured.

    Args:
        arms: In the order that gives them their colours.
        histories: By the name of the arm.
    """
    curves = [
        Curve(name=arm.name, index=index, values=histories[arm.name].losses)
        for index, arm in enumerate(arms)
        if histories[arm.name].losses
    ]
    finished = {arm.name for arm in arms if arm.trace_hash is not None}
    paired = [curve for curve in curves if curve.name in finished] if saw_the_same(arms) else []
    return Figures(
        losses=_draw_losses(curves),
        differences=_draw_differences(paired),
        reference=paired[0].name if paired else "",
        intervals=_draw_held_out(arms),
        left_out=_list_left_out(arms, histories),
    )


def _draw_losses(curves: Sequence[Curve]) -> CurveFigure | None:
    if not curves:
        return None
    wide = draw_curves(curves, WIDE)
    caption = f"{_describe_line(curves)} Dots are single steps."
    if wide.outside:
        points = sum(len(curve.values) for curve in curves)
        caption += (
            f" {write_count(wide.outside)} of {write_counted(points, 'step')} lie beyond the axis."
        )
    return CurveFigure(wide=wide, narrow=draw_curves(curves, NARROW), caption=caption)


def _draw_differences(curves: Sequence[Curve]) -> CurveFigure | None:
    """Draw what the noise of single steps hides: each arm's loss less the first arm's."""
    differences = [subtract(curve, curves[0]) for curve in curves[1:]]
    differences = [curve for curve in differences if curve.values]
    if not differences:
        return None
    caption = (
        f"Each step's loss less that of {curves[0].name} on the same pictures, timesteps and "
        f"noise, which takes most of the noise away. {_describe_line(differences)}"
    )
    return CurveFigure(
        wide=draw_curves(differences, HALF, nought=True),
        narrow=draw_curves(differences, NARROW, nought=True),
        caption=caption,
    )


def _draw_held_out(arms: Sequence[ArmResult]) -> IntervalFigure | None:
    wide = draw_intervals(arms, HALF.width)
    narrow = draw_intervals(arms, NARROW.width)
    if wide is None or narrow is None:
        return None
    counts = sorted({arm.held_out_loss.n for arm in arms if arm.held_out_loss})
    caption = (
        "Adapted minus base on the same held-out pictures, timesteps and noise, with its 95 % "
        f"interval; {write_n(*counts)}. Left is better. Each "
        "arm is set against its own base, as that arm stores it."
    )
    return IntervalFigure(wide=wide, narrow=narrow, caption=caption)


def _describe_line(curves: Sequence[Curve]) -> str:
    window = choose_window(curves)
    if window == 1:
        return "Lines join single steps."
    return f"Lines are a running mean over {window} steps, taken twice."


def _list_left_out(arms: Sequence[ArmResult], histories: Mapping[str, LossHistory]) -> list[str]:
    notes: list[str] = []
    for arm in arms:
        history = histories[arm.name]
        if not history.losses:
            notes.append(f"{arm.name}: no steps were recorded, so it has no line.")
        if history.left_out:
            lines = write_counted(history.left_out, "line")
            notes.append(f"{arm.name}: {lines} of steps.jsonl without a finite loss left out.")
    return notes
