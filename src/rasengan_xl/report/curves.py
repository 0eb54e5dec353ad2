"""Curves over the steps of training: a smooth line for every arm over its faint raw points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from rasengan_xl.report.axes import Axis, Tick, cover, trim

MOST_POINTS = 400
"""Points of one arm that are drawn; more would make the page heavy and not plainer."""
SMOOTHED_SHARE = 0.08
"""Part of the longest arm's steps that a line averages over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Size of a drawing in pixels, and the room its labels take."""

    width: int
    height: int
    left: int = 62
    right: int = 24
    top: int = 34
    bottom: int = 46


WIDE = Shape(width=1120, height=380)
HALF = Shape(width=540, height=320)
NARROW = Shape(width=370, height=280, left=52)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One arm's values by step, with its place among the arms, which gives its colour."""

    name: str
    index: int
    values: Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve as SVG paths."""

    name: str
    index: int
    line: str
    dots: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Everything a template needs to draw the curves."""

    shape: Shape
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    nought: float | None
    """Where the line of no difference lies, if it is asked for and in range."""
    lines: list[Line]
    outside: int
    """Raw points beyond the range of the axis."""


def draw_curves(curves: Sequence[Curve], shape: Shape, *, nought: bool = False) -> Drawing:
    """Lay out curves that share their axes.

    Args:
        curves: At least one value in total.
        shape: Size of the drawing.
        nought: Whether nought is to be in range and marked.
    """
    last = max((max(curve.values) for curve in curves if curve.values), default=1)
    x = Axis(low=0, high=max(1, last), start=shape.left, end=shape.width - shape.right)
    window = choose_window(curves)
    smoothed = [smooth(curve, window) for curve in curves]
    low, high = _find_range(curves, smoothed, nought=nought)
    y = Axis(low=low, high=high, start=shape.height - shape.bottom, end=shape.top)
    return Drawing(
        shape=shape,
        x_ticks=x.make_ticks(shape.width // 110, whole=True),
        y_ticks=y.make_ticks(5),
        nought=y.place(0) if nought else None,
        lines=[
            Line(
                name=curve.name,
                index=curve.index,
                line=_trace_line(line, x, y),
                dots=_trace_dots(curve.values, x, y),
            )
            for curve, line in zip(curves, smoothed, strict=True)
        ],
        outside=sum(not y.holds(value) for curve in curves for value in curve.values.values()),
    )


def choose_window(curves: Sequence[Curve]) -> int:
    """Return how many steps the lines average over: odd, so that it is centred."""
    longest = max((len(curve.values) for curve in curves), default=0)
    return 2 * int(longest * SMOOTHED_SHARE / 2) + 1


def subtract(curve: Curve, reference: Curve) -> Curve:
    """Return a curve's difference from another at the steps that both have."""
    shared = [step for step in curve.values if step in reference.values]
    differences = {step: curve.values[step] - reference.values[step] for step in shared}
    return Curve(name=curve.name, index=curve.index, values=differences)


def smooth(curve: Curve, window: int) -> dict[int, float]:
    """Average each value with its neighbours, twice: once leaves a line ragged."""
    once = _average(list(curve.values.values()), window // 2)
    return dict(zip(curve.values, _average(once, window // 2), strict=True))


def _average(values: Sequence[float], reach: int) -> list[float]:
    """Return the mean within reach of every place; there is less in reach at both ends."""
    sums = [0.0, *accumulate(values)]
    bounds = [
        (max(0, place - reach), min(len(values), place + reach + 1)) for place in range(len(values))
    ]
    return [(sums[end] - sums[start]) / (end - start) for start, end in bounds]


def _find_range(
    curves: Sequence[Curve], smoothed: Sequence[Mapping[int, float]], *, nought: bool
) -> tuple[float, float]:
    raw = [value for curve in curves for value in curve.values.values()]
    lines = [value for line in smoothed for value in line.values()]
    return cover([*trim(raw), *trim(lines, 0.01, 0.99), *([0.0] if nought else [])])


def _trace_line(values: Mapping[int, float], x: Axis, y: Axis) -> str:
    points = [f"{x.place(step)},{y.place(value)}" for step, value in _thin(values)]
    # A line of one point is drawn as a dot by its round cap.
    return f"M{'L'.join(points)}{'h0' if len(points) == 1 else ''}" if points else ""


def _trace_dots(values: Mapping[int, float], x: Axis, y: Axis) -> str:
    """Return one path of many zero-length strokes: the smallest form of a cloud of dots."""
    inside = [(step, value) for step, value in _thin(values) if y.holds(value)]
    return "".join(f"M{x.place(step)},{y.place(value)}h0" for step, value in inside)


def _thin(values: Mapping[int, float]) -> list[tuple[int, float]]:
    """Return evenly spaced points, the last among them."""
    points = list(values.items())
    stride = -(-len(points) // MOST_POINTS) or 1
    return points[::-1][::stride][::-1]
