"""Which arms a comparison has, and the place that gives each its colour everywhere."""

from collections.abc import Mapping

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.evaluation.records import Measure, Verdict


def place_arms(comparison: Comparison) -> dict[str, int]:
    """Return the place of every arm, by its name."""
    return {arm.name: place for place, arm in enumerate(comparison.arms)}


def find_primary(comparison: Comparison) -> Measure | None:
    """Return the measure by which arms are told apart first."""
    named = {measure.key: measure for measure in comparison.measures}
    return named.get(comparison.primary or "")


def list_verdicts(comparison: Comparison, key: str) -> list[Verdict]:
    """List the verdicts of a measure between arms."""
    arms = place_arms(comparison)
    return [
        verdict
        for verdict in comparison.verdicts
        if verdict.measure == key and verdict.first in arms and verdict.second in arms
    ]


def find_memory(comparison: Comparison) -> Measure | None:
    """Return the measure of how much memory training takes."""
    return _first(comparison, unit="GiB", words=("memory",))


def find_time(comparison: Comparison) -> Measure | None:
    """Return the measure of how long training takes: as a whole, else a step of it."""
    return _first(comparison, unit="s", words=("training", "step"))


def series_of(measured: Mapping[str, object], places: Mapping[str, int]) -> list[tuple[int, str]]:
    """Return place and name of the arms that were measured, in the order of the arms."""
    return [(place, name) for name, place in places.items() if name in measured]


def _first(comparison: Comparison, unit: str, words: tuple[str, ...]) -> Measure | None:
    fitting = [
        m
        for m in comparison.measures
        if m.group == "cost" and m.unit.partition("/")[0] == unit and m.arms
    ]
    by_word = ((word, measure) for word in words for measure in fitting)
    return next((measure for word, measure in by_word if word in measure.key), None)
