import math

import numpy as np
import pytest

from rasengan_xl.evaluation.distances import (
    cmmd_kernels,
    cosine_distances,
    discrepancy,
    diversity,
    drift,
    find_nearest,
    kid_kernels,
)
from rasengan_xl.evaluation.resampling import picture_weights


def gaussian(x, y):
    x, y = x / math.sqrt(sum(x * x)), y / math.sqrt(sum(y * y))
    return math.exp(-sum((x - y) ** 2) / (2 * 10**2))


def cubic(x, y):
    return (sum(x * y) / len(x) + 1) ** 3


def measure_naively(kernel, drawn, reference):
    """The unbiased discrepancy of lists of (picture, features), times 1000, pair by pair."""

    def mean(pairs):
        values = [kernel(a, b) for (i, a), (j, b) in pairs if i != j]
        return sum(values) / len(values)

    within = mean([(a, b) for a in drawn for b in drawn])
    within += mean([(a, b) for a in reference for b in reference])
    renamed = [(-1 - i, b) for i, b in reference]
    return 1000 * (within - 2 * mean([(a, b) for a in drawn for b in renamed]))


@pytest.fixture
def sets():
    random = np.random.default_rng(0)
    return random.normal(0.5, 1, (9, 6)), random.normal(0, 2, (12, 6))


KERNELS = [(cmmd_kernels, gaussian), (kid_kernels, cubic)]


@pytest.mark.parametrize(("compute", "kernel"), KERNELS)
def test_a_discrepancy_is_the_mean_over_pairs_of_different_pictures(sets, compute, kernel):
    drawn, reference = sets
    naive = measure_naively(kernel, list(enumerate(drawn)), list(enumerate(reference)))
    assert discrepancy(compute(drawn, reference)) == pytest.approx(naive, rel=1e-6)
    halves = discrepancy(compute(drawn.astype(np.float32), reference.astype(np.float32)))
    assert halves == pytest.approx(naive, rel=1e-4)


@pytest.mark.parametrize(("compute", "kernel"), KERNELS)
def test_weights_are_pictures_drawn_again_without_pairs_of_copies(sets, compute, kernel):
    drawn, reference = sets
    weights, other = picture_weights(9, 4, "drawn"), picture_weights(12, 4, "reference")
    found = discrepancy(compute(drawn, reference), weights, other)
    for value, often, otherwise in zip(found, weights, other, strict=True):
        first = [(i, drawn[i]) for i in np.repeat(np.arange(9), often)]
        second = [(i, reference[i]) for i in np.repeat(np.arange(12), otherwise)]
        assert value == pytest.approx(measure_naively(kernel, first, second), rel=1e-6)


@pytest.mark.parametrize("compute", [cmmd_kernels, kid_kernels])
def test_replicates_are_not_biased_and_equal_sets_are_not_apart_on_average(compute):
    random = np.random.default_rng(1)
    weights, other = picture_weights(20, 300, "drawn"), picture_weights(30, 300, "reference")
    points, means = [], []
    for _ in range(300):
        kernels = compute(random.normal(1, 1, (20, 4)), random.normal(1, 1, (30, 4)))
        points += discrepancy(kernels).tolist()
        means.append(discrepancy(kernels, weights, other).mean())
    for values in (points, means):
        assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(300)


def test_diversity_is_the_mean_cosine_distance_of_two_different_pictures(sets):
    pictures = sets[0]
    unit = [x / math.sqrt(sum(x * x)) for x in pictures]
    naive = [1 - sum(a * b) for i, a in enumerate(unit) for b in unit[:i]]
    distances = cosine_distances(pictures)
    assert diversity(distances) == pytest.approx(np.mean(naive), rel=1e-9)
    twice = np.array([[2, 1, 0, 0, 0, 0, 0, 0, 0]])
    assert diversity(distances, twice) == pytest.approx(distances[0, 1], rel=1e-9)


def test_drift_is_of_each_picture_and_its_partner():
    first, second = np.array([[1.0, 0], [2, 0], [1, 1]]), np.array([[5.0, 0], [0, 1], [-1, -1]])
    assert drift(first, second) == pytest.approx([0, 1, 2])


def test_the_nearest_picture_is_that_of_the_largest_cosine():
    drawn, training = np.array([[1.0, 0], [0.1, 3]]), np.array([[0, 9.0], [1, 1], [0.2, 0.01]])
    nearest = find_nearest(drawn, training)
    assert nearest.index.tolist() == [2, 0]
    assert nearest.similarity == pytest.approx([20 / math.sqrt(401), 3 / math.sqrt(9.01)])
