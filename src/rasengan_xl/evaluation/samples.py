"""One measure of one arm as a sample: over its training seeds, and over resampled pictures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from rasengan_xl.errors import RecipeError
from rasengan_xl.evaluation.distances import Kernels, discrepancy, diversity
from rasengan_xl.evaluation.resampling import SMALLEST_SET

Seed = int | None
"""Training seed; None of the base model, which was not trained here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A measure of one arm, or its difference between two."""

    seeds: tuple[Seed, ...]
    points: Float[np.ndarray, " seed"]
    """Value over all pictures."""
    replicates: Float[np.ndarray, "seed draw"]
    """The same over resampled pictures; no draws for a measure that is not over pictures."""
    pictures: int
    """Pictures it is over; 0 for a measure that is not over pictures."""
    independent: int
    """Size of the smallest sample it is over: what the spread over pictures is known from."""

    @property
    def resampled(self) -> bool:
        """Whether there are replicates over pictures."""
        return self.replicates.shape[1] > 0


def sample_means(
    values: Mapping[Seed, Float[np.ndarray, " picture"]],
    weights: Shaped[np.ndarray, "draw picture"],
) -> Sampled:
    """Sample a measure that is the mean of a value of each picture.

    Args:
        values: By training seed, of the same pictures in the same order.
        weights: How often each picture is in each replicate.
    """
    rows = np.stack([np.asarray(row, dtype=np.float64) for row in values.values()])
    count = rows.shape[1]
    # One picture says nothing of how pictures differ.
    replicates = rows @ weights.T / count if count > 1 else np.empty((len(rows), 0))
    return Sampled(
        seeds=tuple(values),
        points=rows.mean(axis=1),
        replicates=replicates,
        pictures=count,
        independent=count,
    )


def sample_discrepancies(
    kernels: Mapping[Seed, Kernels],
    weights: Shaped[np.ndarray, "draw drawn"],
    reference_weights: Shaped[np.ndarray, "draw reference"],
) -> Sampled:
    """Sample a discrepancy between the pictures of each seed and the same reference pictures.

    Args:
        kernels: By training seed.
        weights: How often each drawn picture is in each replicate.
        reference_weights: The same of the reference pictures.

    Raises:
        RecipeError: There are too few pictures of either kind.
    """
    return _sample_sets(
        {seed: _discrepancy_of(each, reference_weights) for seed, each in kernels.items()},
        weights,
        independent=min(weights.shape[1], reference_weights.shape[1]),
    )


def sample_diversities(
    distances: Mapping[Seed, Float[np.ndarray, "picture picture"]],
    weights: Shaped[np.ndarray, "draw picture"],
) -> Sampled:
    """Sample the mean distance between two pictures of each seed.

    Args:
        distances: By training seed.
        weights: How often each picture is in each replicate.

    Raises:
        RecipeError: There are too few pictures.
    """
    return _sample_sets(
        {seed: _diversity_of(each) for seed, each in distances.items()},
        weights,
        independent=weights.shape[1],
    )


def sample_values(values: Mapping[Seed, float | int]) -> Sampled:
    """Take a measure that is not over pictures, such as a run's seconds per step.

    Args:
        values: By training seed.
    """
    return Sampled(
        seeds=tuple(values),
        points=np.array(list(values.values()), dtype=np.float64),
        replicates=np.empty((len(values), 0)),
        pictures=0,
        independent=0,
    )


def subtract(first: Sampled, second: Sampled) -> Sampled | None:
    """Return the difference of two samples, paired by seed and picture.

    A second that is of the base model, which has no seeds, is taken off every seed of the first.

    Returns:
        The difference over the seeds that both have; nothing if they have none.
    """
    assert first.independent == second.independent, "not over the same pictures"
    assert first.replicates.shape[1] == second.replicates.shape[1], "not resampled alike"
    common = first.seeds if second.seeds == (None,) else _common(first.seeds, second.seeds)
    if not common:
        return None
    rows = [first.seeds.index(seed) for seed in common]
    others = [0 if second.seeds == (None,) else second.seeds.index(seed) for seed in common]
    return Sampled(
        seeds=common,
        points=first.points[rows] - second.points[others],
        replicates=first.replicates[rows] - second.replicates[others],
        pictures=first.pictures,
        independent=first.independent,
    )


_Statistic = Callable[[np.ndarray | None], np.ndarray]
"""From the weights of drawn pictures to a value for each replicate; None: each picture once."""


def _sample_sets(
    statistics: Mapping[Seed, _Statistic], weights: np.ndarray, independent: int
) -> Sampled:
    if independent < SMALLEST_SET:
        raise RecipeError(
            f"{independent} pictures: a distance between sets needs {SMALLEST_SET} drawn and as "
            "many reference pictures; draw more prompts, or hold more pictures out"
        )
    return Sampled(
        seeds=tuple(statistics),
        points=np.concatenate([over(None) for over in statistics.values()]),
        replicates=np.stack([over(weights) for over in statistics.values()]),
        pictures=weights.shape[1],
        independent=independent,
    )


def _discrepancy_of(kernels: Kernels, reference_weights: np.ndarray) -> _Statistic:
    def over(weights: np.ndarray | None) -> np.ndarray:
        return discrepancy(kernels, weights, None if weights is None else reference_weights)

    return over


def _diversity_of(distances: np.ndarray) -> _Statistic:
    return lambda weights: diversity(distances, weights)


def _common(first: tuple[Seed, ...], second: tuple[Seed, ...]) -> tuple[Seed, ...]:
    return tuple(seed for seed in first if seed in second)
