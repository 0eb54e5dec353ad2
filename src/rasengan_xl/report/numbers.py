"""How a figure is written for people: rounded, with its unit, never in exponents."""

import math
from collections.abc import Sequence

MISSING = "\N{EN DASH}"
"""Stands where an arm has no figure."""
_MINUS = "\N{MINUS SIGN}"
_SPACE = "\N{NO-BREAK SPACE}"
_MOST_DECIMALS = 6
_MOST_PLAIN_DECIMALS = 10
_ALMOST_CHANCE = (0.045, 0.055)
"""P-values near the line at 0.05 are written with a digit more, to tell the side."""
_TIMES = "\N{MULTIPLICATION SIGN}"
_COUNT_UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "k"))
_FLOP_UNITS = ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))
_BYTE_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def write_count(number: int) -> str:
    """Write a number in full: 1,221."""
    return f"{number:,}"


def write_counted(number: int, noun: str) -> str:
    """Write a number and what it counts: 1 arm, 4 arms."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def list_names(names: Sequence[str]) -> str:
    """Write names as a person would: a, b and c."""
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def write_sample(pictures: int, seeds: int) -> str:
    """Write what a figure is over: n = 64 pictures times 3 seeds; the base has no seeds."""
    parts = [write_counted(pictures, "picture")] if pictures else []
    if seeds or not pictures:
        parts.append(write_counted(seeds, "seed"))
    joined = [part.replace(" ", _SPACE) for part in parts]
    return f"n{_SPACE}={_SPACE}" + f" {_TIMES}{_SPACE}".join(joined)


def write_seed_counts(counts: Sequence[int]) -> str:
    """Write over how many seeds figures are, where they differ in it: n = 2 to 3 seeds."""
    few, many = min(counts), max(counts)
    return (
        write_sample(0, many) if few == many else f"n{_SPACE}={_SPACE}{few} to {many}{_SPACE}seeds"
    )


def write_n(number: int) -> str:
    """Write the size of a sample so that no line breaks within it: n = 256."""
    return f"n{_SPACE}={_SPACE}{write_count(number)}"


def write_compact(number: float) -> str:
    """Write a large number with three digits: 23.2 M."""
    return _with_unit(number, _COUNT_UNITS) or write_plain(number)


def write_bytes(number: int) -> str:
    """Write the size of a file in decimal units: 46.5 MB."""
    return _with_unit(number, _BYTE_UNITS) or f"{number} B"


def write_rate(rate: float) -> str:
    """Write a learning rate in full: 0.00003."""
    return f"{rate:.12f}".rstrip("0").rstrip(".")


def write_flops(number: float) -> str:
    """Write an amount of arithmetic: 21.3 TFLOP."""
    return _with_unit(number, _FLOP_UNITS) or f"{write_plain(number)} FLOP"


def write_share(share: float) -> str:
    """Write a part of a whole: 0.0090 is 0.90 %."""
    return f"{write_digits(share * 100)}{_SPACE}%" if share else f"0{_SPACE}%"


def write_duration(seconds: float) -> str:
    """Write a duration in the units that people tell time in: 42.1 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{write_digits(seconds)}{_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_SPACE}min {rest}{_SPACE}s"
    return f"{minutes // 60}{_SPACE}h {minutes % 60}{_SPACE}min"


def write_times(ratio: float) -> str:
    """Write how many times as much: 1.92, with the multiplication sign."""
    return f"{ratio:.2f}{_TIMES}"


def write_p_value(p_value: float | None) -> str:
    """Write a p-value; below a thousandth only that it is."""
    if p_value is None:
        return ""
    if p_value < 0.001:
        return f"p{_SPACE}<{_SPACE}0.001"
    low, high = _ALMOST_CHANCE
    return f"p{_SPACE}={_SPACE}{p_value:.{4 if low < p_value < high else 3}f}"


def write_value(value: float, unit: str = "", reach: float | None = None) -> str:
    """Write a value to the decimals that its interval supports.

    Args:
        value: What was measured.
        unit: Stands behind it.
        reach: Half the width of its interval, if it has one.
    """
    return _with(f"{_signed(value, choose_decimals(value, reach))}", unit)


def write_difference(value: float, unit: str = "", reach: float | None = None) -> str:
    """Write a difference with its sign, whichever it is."""
    number = _signed(value, choose_decimals(value, reach))
    return _with(number if value <= 0 or _is_nought(number) else f"+{number}", unit)


def write_interval(low: float | None, high: float | None, unit: str = "") -> str:
    """Write an interval in brackets; where there is none, say nothing."""
    if low is None or high is None:
        return ""
    decimals = choose_decimals((low + high) / 2, (high - low) / 2)
    ends = f"[{_signed(low, decimals)}, {_signed(high, decimals)}]".replace(" ", _SPACE)
    return _with(ends, unit)


def write_with_interval(value: float, low: float | None, high: float | None, unit: str = "") -> str:
    """Write a value with its unit, and its interval behind it, if it has one."""
    written = write_value(value, unit, half_width(low, high))
    return f"{written} {write_interval(low, high)}".rstrip()


def write_within(label: str) -> str:
    """Write a label as it stands within a sentence; an acronym at its start keeps its capitals."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


def write_at(value: float, decimals: int) -> str:
    """Write a value to the decimals of another."""
    return _signed(value, decimals)


def choose_decimals(value: float, reach: float | None) -> int:
    """Return the decimals that an interval supports; of a bare value, those of four digits.

    An interval's first digit is enough, unless it is so small that rounding would change it much.
    """
    if reach:
        decimals = min(_MOST_DECIMALS, _decimals(reach, digits=2 if f"{reach:e}"[0] in "12" else 1))
        return min(2, decimals) if abs(value) >= 1 and reach >= 0.005 else decimals
    return min(_MOST_DECIMALS, _decimals(value, digits=4))


def half_width(low: float | None, high: float | None) -> float | None:
    """Return how far an interval reaches to one side."""
    return None if low is None or high is None else (high - low) / 2


def write_digits(value: float) -> str:
    """Write a value with three digits."""
    return _signed(value, min(_MOST_DECIMALS, _decimals(value, digits=3)))


def write_plain(value: float) -> str:
    """Write a value with six digits, without the noughts at its end."""
    written = _signed(value, min(_MOST_PLAIN_DECIMALS, _decimals(value, digits=6))).replace(",", "")
    return written.rstrip("0").rstrip(".") if "." in written else written


def _with(text: str, unit: str) -> str:
    return f"{text}{_SPACE}{unit}" if unit else text


def _with_unit(number: float, units: tuple[tuple[float, str], ...]) -> str | None:
    for size, unit in units:
        # 999,950 would round to "1000 k"; it is written as "1.00 M".
        if number >= size * 0.9995:
            return f"{write_digits(number / size)}{_SPACE}{unit}"
    return None


def _decimals(value: float, digits: int) -> int:
    """Return the decimals that show so many digits of a value."""
    if value == 0 or not math.isfinite(value):
        return digits - 1
    magnitude = math.floor(math.log10(float(f"{abs(value):.{digits - 1}e}")))
    return max(0, digits - 1 - magnitude)


def _signed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if _is_nought(text) else text.replace("-", _MINUS)


def _is_nought(text: str) -> bool:
    return not any(digit in text for digit in "123456789")
