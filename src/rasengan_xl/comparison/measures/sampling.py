"""How a measure comes from evidence: a value of every arm, sampled over seeds and pictures."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, Protocol

import numpy as np

from rasengan_xl.comparison.evidence import Evidence, Subject
from rasengan_xl.evaluation.intervals import estimate
from rasengan_xl.evaluation.records import Direction, Estimate, Measure
from rasengan_xl.evaluation.resampling import DRAWS, picture_weights
from rasengan_xl.evaluation.samples import Sampled, Seed, sample_means, sample_values

Sampler = Callable[[list[Subject]], Sampled | None]
"""From the subjects of one arm to their sample; None: they have no such value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A measure with the samples that it and its verdicts come from."""

    measure: Measure
    arms: Mapping[str, Sampled]


@dataclass(frozen=True, slots=True, kw_only=True)
class Title:
    """What a measure is called, and which way is better."""

    key: str
    label: str
    note: str
    direction: Direction
    group: Literal["loss", "pictures", "captions", "cost"]
    unit: str = ""
    is_share: bool = False
    """Whether its values lie between 0 and 1, and so do the ends of their intervals."""


def over_pictures(
    title: Title,
    evidence: Evidence,
    values_of: Callable[[Subject], np.ndarray | None],
    base: Mapping[Seed, np.ndarray] | None = None,
    key: str = "held out",
) -> Iterator[Measured]:
    """Measure what is a mean of a value of each picture.

    Args:
        title: What it is called.
        evidence: Where it comes from.
        values_of: A subject's value of each picture; None where it has none.
        base: Values of the base; what `values_of` says of it, if not told; none, if empty.
        key: Names the sample of pictures.
    """

    def sample_rows(rows: Mapping[Seed, np.ndarray]) -> Sampled | None:
        if not rows:
            return None
        count = len(next(iter(rows.values())))
        return sample_means(rows, weights_of(count, key)) if count else None

    def sample(subjects: list[Subject]) -> Sampled | None:
        rows = {s.seed: values for s in subjects if (values := values_of(s)) is not None}
        return sample_rows(rows)

    def sample_base(_: list[Subject]) -> Sampled | None:
        return sample_rows(base or {})

    yield from by_arm(title, evidence, sample, None if base is None else sample_base)


class Timed(Protocol):
    """Quartiles of how long something took, over n of it."""

    @property
    def p25(self) -> float: ...  # noqa: D102
    @property
    def p75(self) -> float: ...  # noqa: D102
    @property
    def n(self) -> int: ...  # noqa: D102


def over_runs(
    title: Title,
    evidence: Evidence,
    value_of: Callable[[Subject], float | None],
    times_of: Callable[[Subject], Timed | None] | None = None,
) -> Iterator[Measured]:
    """Measure what has one value for each run, not one for each picture.

    Args:
        title: What it is called.
        evidence: Where it comes from.
        value_of: A run's value.
        times_of: Of what times the value is the median, if it is.
    """

    def sample(subjects: list[Subject]) -> Sampled | None:
        values = {s.seed: value for s in subjects if (value := value_of(s)) is not None}
        return sample_values(values) if values else None

    for measured in by_arm(title, evidence, sample):
        yield measured if times_of is None else _with_quartiles(measured, evidence, times_of)


def _with_quartiles(
    measured: Measured, evidence: Evidence, times_of: Callable[[Subject], Timed | None]
) -> Measured:
    def describe(found: Estimate, subjects: Iterable[Subject]) -> Estimate:
        times = [each for subject in subjects if (each := times_of(subject)) is not None]
        if not times:
            return found
        quartiles = {
            "p25": sum(each.p25 for each in times) / len(times),
            "p75": sum(each.p75 for each in times) / len(times),
            "timed": sum(each.n for each in times),
        }
        return found.model_copy(update=quartiles)

    measure = measured.measure
    arms = {arm: describe(found, evidence.of(arm)) for arm, found in measure.arms.items()}
    base = describe(measure.base, [evidence.base]) if measure.base else None
    return replace(measured, measure=measure.model_copy(update={"arms": arms, "base": base}))


def by_arm(
    title: Title,
    evidence: Evidence,
    sample: Sampler,
    base: Sampler | None = None,
) -> Iterator[Measured]:
    """Sample every arm and the base; nothing, if no arm has a value.

    Args:
        title: What it is called.
        evidence: Where it comes from.
        sample: From the subjects of one arm to their sample.
        base: From the base to its sample; `sample` does it, if not told.
    """
    samples = {arm: sample(list(evidence.of(arm))) for arm in evidence.arms}
    arms = {arm: sampled for arm, sampled in samples.items() if sampled is not None}
    if not arms:
        return
    of_base = (base or sample)([evidence.base])
    measure = Measure(
        key=title.key,
        label=title.label,
        unit=title.unit,
        note=title.note,
        direction=title.direction,
        group=title.group,
        base=_estimate(of_base, title) if of_base is not None else None,
        arms={arm: _estimate(sampled, title) for arm, sampled in arms.items()},
    )
    yield Measured(measure=measure, arms=arms)


def _estimate(sampled: Sampled, title: Title) -> Estimate:
    found = estimate(sampled)
    if not title.is_share or found.low is None or found.high is None:
        return found
    return found.model_copy(update={"low": max(0.0, found.low), "high": min(1.0, found.high)})


@cache
def weights_of(pictures: int, key: str) -> np.ndarray:
    """Return how often each picture of a sample is in each replicate."""
    return picture_weights(pictures, DRAWS, key)
