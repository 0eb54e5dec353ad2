"""The ways in which a check can end."""

import math

from rasengan_xl.runs.verification import Check, Status

Figure = float | int | str


def outcome(name: str, fault: str, found: str, **figures: Figure) -> Check:
    """Report what was found, or the fault if there is one."""
    return _check(name, "failed" if fault else "passed", fault or found, figures)


def noted(name: str, found: str, **figures: Figure) -> Check:
    """Report what a user should know."""
    return _check(name, "noted", found, figures)


def not_checked(name: str, reason: str) -> Check:
    """Say why something was not looked at."""
    return _check(name, "not checked", reason, {})


def plural(count: int, noun: str) -> str:
    """Write a number of things."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def first_of(names: list[str]) -> str:
    """Name some, and tell how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _check(name: str, status: Status, detail: str, figures: dict[str, Figure]) -> Check:
    finite = {key: value for key, value in figures.items() if _is_finite(value)}
    return Check(name=name, status=status, detail=detail, figures=finite)


def _is_finite(figure: Figure) -> bool:
    return isinstance(figure, str) or math.isfinite(figure)  # JSON has no word for the others
