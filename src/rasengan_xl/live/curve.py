"""A curve that stays short however long a run gets."""

import math

from rasengan_xl.live.records import LiveCurve

MOST_POINTS = 300


class Curve:
    """Means over equal spans of steps; the span doubles when there are too many of them."""

    def __init__(self, most_points: int = MOST_POINTS) -> None:
        self._most_points = most_points
        self._span = 1
        self._sums: dict[int, tuple[float, int, int]] = {}
        """By number of the span: sum of the losses, how many they are, and the last step."""

    def add(self, step: int, loss: float) -> None:
        """Add a step, counted from one; a loss that is no finite number is left out."""
        if not math.isfinite(loss):
            return
        self._put((step - 1) // self._span, loss, 1, step)
        while len(self._sums) > self._most_points:
            narrow, self._sums, self._span = self._sums, {}, self._span * 2
            for number, (total, count, last) in narrow.items():
                self._put(number // 2, total, count, last)

    def thin(self) -> LiveCurve:
        """Return the curve as it stands, in order of steps."""
        points = [(last, total / count) for _, (total, count, last) in sorted(self._sums.items())]
        return LiveCurve(steps_per_point=self._span, points=points)

    def _put(self, number: int, total: float, count: int, last: int) -> None:
        before, counted, latest = self._sums.get(number, (0.0, 0, 0))
        self._sums[number] = (before + total, counted + count, max(latest, last))
