"""Which arms differ in a measure, and which differences could be chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from rasengan_xl.evaluation.intervals import chance_of, estimate
from rasengan_xl.evaluation.records import Direction, Outcome, Verdict
from rasengan_xl.evaluation.samples import Sampled, subtract

SIGNIFICANCE = 0.05
"""Chance of any false difference among the pairs of one measure."""


def judge_measure(measure: str, direction: Direction, arms: Mapping[str, Sampled]) -> list[Verdict]:
    """Compare every pair of arms in one measure, in the order in which the arms are given.

    A pair is judged on the seeds that both arms have, and on two at least; not at all where
    neither direction is better.

    Args:
        measure: Its key.
        direction: Which way is better.
        arms: By name; an arm without a value is left out.
    """
    pairs = [_compare(*pair) for pair in combinations(arms.items(), 2)]
    judged = [pair.p_value is not None and direction != "neither" for pair in pairs]
    chances = [pair.p_value for pair, kept in zip(pairs, judged, strict=True) if kept]
    corrected = iter(correct_by_holm([chance for chance in chances if chance is not None]))
    return [
        _conclude(measure, direction, pair, next(corrected) if kept else None)
        for pair, kept in zip(pairs, judged, strict=True)
    ]


def correct_by_holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down method (doi:10.2307/4615733)."""
    corrected = [0.0] * len(p_values)
    least = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = least
    return corrected


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    pictures: int
    seeds: int


def _compare(first: tuple[str, Sampled], second: tuple[str, Sampled]) -> _Pair:
    difference = subtract(first[1], second[1])
    if difference is None:  # nothing to pair: said, and not judged
        apart = first[1].points.mean() - second[1].points.mean()
        low, high, chance, pictures, seeds = None, None, None, first[1].pictures, 0
    else:
        found = estimate(difference)
        apart, low, high = found.value, found.low, found.high
        chance, pictures, seeds = chance_of(difference), found.pictures, found.seeds
    return _Pair(
        first=first[0],
        second=second[0],
        difference=float(apart),
        low=low,
        high=high,
        p_value=chance,
        pictures=pictures,
        seeds=seeds,
    )


def _conclude(measure: str, direction: Direction, pair: _Pair, corrected: float | None) -> Verdict:
    return Verdict(
        measure=measure,
        first=pair.first,
        second=pair.second,
        difference=pair.difference,
        low=pair.low,
        high=pair.high,
        p_value=pair.p_value if corrected is not None else None,
        corrected_p_value=corrected,
        outcome=_name_outcome(direction, pair.difference, corrected),
        pictures=pair.pictures,
        seeds=pair.seeds,
    )


def _name_outcome(direction: Direction, difference: float, corrected: float | None) -> Outcome:
    if corrected is None:
        return "not judged"
    if corrected > SIGNIFICANCE:
        return "no detectable difference"
    return "better" if (difference < 0) == (direction == "lower") else "worse"
