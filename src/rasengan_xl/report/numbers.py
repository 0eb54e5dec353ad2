"""How a figure is written for people: rounded, with its unit, never in exponents."""

import math

MISSING = "\N{EN DASH}"
"""Stands where an arm has no figure."""
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
_MINUS = "\N{MINUS SIGN}"
_COUNT_UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "k"))
_BYTE_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def write_count(number: int) -> str:
    """Write a number in full: 1,221."""
    return f"{number:,}"


def write_counted(number: int, noun: str) -> str:
    """Write a number and what it counts: 1 arm, 4 arms."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def write_n(*numbers: int) -> str:
    """Write the size of a sample so that no line breaks within it: n = 256."""
    return "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}" + ", ".join(map(write_count, numbers))


def write_compact(number: int) -> str:
    """Write a large number with three digits: 23.2 M."""
    return _with_unit(number, _COUNT_UNITS) or str(number)


def write_bytes(number: int) -> str:
    """Write the size of a file in decimal units: 46.5 MB."""
    return _with_unit(number, _BYTE_UNITS) or f"{number} B"


def write_share(share: float) -> str:
    """Write a part of a whole: 0.0090 is 0.90 %."""
    return f"{_three_digits(share * 100)} %" if share else "0 %"


def write_gib(gib: float) -> str:
    """Write memory with two decimals: 6.10 GiB."""
    return f"{gib:,.2f} GiB"


def write_seconds(seconds: float) -> str:
    """Write a duration with three digits: 0.138 s."""
    return f"{_three_digits(seconds)} s"


def write_seconds_range(low: float, high: float) -> str:
    """Write two durations that share a unit: 0.131 to 0.150 s."""
    return f"{_three_digits(low)} to {_three_digits(high)} s"


def write_times(ratio: float) -> str:
    """Write how many times as much: 1.92, with the multiplication sign."""
    return f"{ratio:.2f}\N{MULTIPLICATION SIGN}"


def write_loss(loss: float) -> str:
    """Write a loss with four decimals, more only where they would all be nought."""
    return _signed(loss, 4 if not 0 < abs(loss) < 0.01 else _decimals(loss, digits=3))


def write_error(error: float) -> str:
    """Write a standard error with two digits."""
    return f"{PLUS_MINUS} {error:.{_decimals(error, digits=2)}f}"


def write_with_error(value: float, error: float) -> str:
    """Write a value to the decimals that its standard error supports."""
    decimals = _decimals(error, digits=2) if error else 4
    return f"{_signed(value, decimals)} {PLUS_MINUS} {error:.{decimals}f}"


def _with_unit(number: int, units: tuple[tuple[float, str], ...]) -> str | None:
    for size, unit in units:
        # 999,950 would round to "1000 k"; it is written as "1.00 M".
        if number >= size * 0.9995:
            return f"{_three_digits(number / size)} {unit}"
    return None


def _three_digits(value: float) -> str:
    return f"{value:,.{_decimals(value, digits=3)}f}"


def _decimals(value: float, digits: int) -> int:
    """Return the decimals that show so many digits of a value."""
    if value == 0 or not math.isfinite(value):
        return digits - 1
    magnitude = math.floor(math.log10(float(f"{abs(value):.{digits - 1}e}")))
    return max(0, digits - 1 - magnitude)


def _signed(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}".replace("-", _MINUS)
