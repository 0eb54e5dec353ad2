"""From values to places on a drawing: scales, round ticks, ranges that outliers cannot stretch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_WHOLE_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled place on an axis."""

    position: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A linear scale from a range of values onto a stretch of a drawing, in pixels."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Return where a value lies, to a tenth of a pixel."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def holds(self, value: float) -> bool:
        """Whether a value lies within the range."""
        return self.low <= value <= self.high

    def make_ticks(self, most: int, *, whole: bool = False) -> list[Tick]:
        """Return ticks at round values within the range.

        Args:
            most: About how many.
            whole: Whether only whole numbers may be ticked.
        """
        rough = (self.high - self.low) / max(1, most)
        step = _round_up(max(1.0, rough), _WHOLE_STEPS) if whole else _round_up(rough, _STEPS)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        if not math.isclose(round(step, decimals), step):
            decimals += 1
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [
            Tick(position=self.place(n * step), label=_write_tick(n * step, decimals))
            for n in range(first, last + 1)
        ]


def cover(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """Return a range around values, never empty."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = (high - low) * margin or abs(high) * 0.1 or 1.0
    return low - room, high + room


def trim(values: Sequence[float], low: float = 0.04, high: float = 0.92) -> list[float]:
    """Return two quantiles of values: a range that a few outliers do not stretch."""
    if not values:
        return []
    ordered = sorted(values)
    last = len(ordered) - 1
    return [ordered[math.floor(low * last)], ordered[math.ceil(high * last)]]


def _round_up(rough: float, steps: tuple[float, ...]) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in steps if step * power >= rough * (1 - 1e-9))


def _write_tick(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    nought = not any(digit in text for digit in "123456789")
    return text.lstrip("-") if nought else text.replace("-", "\N{MINUS SIGN}")
