"""How far each arm moved the held-out loss of its base, as a point with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

from rasengan_xl.comparison.result import ArmResult
from rasengan_xl.report.axes import Axis, Tick, cover
from rasengan_xl.report.curves import Shape
from rasengan_xl.runs.records import HeldOutLoss

NORMAL_95 = 1.96
"""Standard errors on each side of a 95 % interval of a normal distribution."""
_ROW_HEIGHT = 46


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One arm's row of the drawing."""

    name: str
    index: int
    y: float
    low: float
    high: float
    point: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalDrawing:
    """Everything a template needs to draw the intervals."""

    shape: Shape
    ticks: list[Tick]
    nought: float
    intervals: list[Interval]


def draw_intervals(arms: Sequence[ArmResult], width: int) -> IntervalDrawing | None:
    """Lay out the paired difference of every arm that has one, or nothing if none has."""
    measured = [
        (index, arm.name, arm.held_out_loss)
        for index, arm in enumerate(arms)
        if arm.held_out_loss is not None
    ]
    if not measured:
        return None
    shape = Shape(
        width=width, height=_ROW_HEIGHT * len(measured) + 60, left=18, right=18, top=4, bottom=46
    )
    bounds = [bound for _, _, loss in measured for bound in _find_bounds(loss)]
    low, high = cover([*bounds, 0.0])
    x = Axis(low=low, high=high, start=shape.left, end=shape.width - shape.right)
    return IntervalDrawing(
        shape=shape,
        ticks=x.make_ticks(width // 110),
        nought=x.place(0),
        intervals=[
            _lay_out(name, index, loss, x, y=shape.top + _ROW_HEIGHT * (row + 0.7))
            for row, (index, name, loss) in enumerate(measured)
        ],
    )


def _lay_out(name: str, index: int, loss: HeldOutLoss, x: Axis, y: float) -> Interval:
    low, high = _find_bounds(loss)
    return Interval(
        name=name,
        index=index,
        y=round(y, 1),
        low=x.place(low),
        high=x.place(high),
        point=x.place(loss.difference),
    )


def _find_bounds(loss: HeldOutLoss) -> tuple[float, float]:
    reach = NORMAL_95 * loss.difference_standard_error
    return loss.difference - reach, loss.difference + reach
