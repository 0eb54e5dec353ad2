import numpy as np
import pytest

from rasengan_xl.errors import RecipeError
from rasengan_xl.evaluation.distances import (
    cmmd_kernels,
    cosine_distances,
    discrepancy,
    diversity,
)
from rasengan_xl.evaluation.resampling import picture_weights
from rasengan_xl.evaluation.samples import (
    sample_discrepancies,
    sample_diversities,
    sample_means,
    sample_values,
    subtract,
)

WEIGHTS = picture_weights(8, 20, "prompts")


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(3, 8))


def test_a_mean_is_resampled_by_its_weights(values):
    sampled = sample_means({5: values[0], 9: values[1]}, WEIGHTS)
    assert sampled.seeds == (5, 9)
    assert sampled.points == pytest.approx(values[:2].mean(axis=1))
    drawn_again = np.repeat(values[1], WEIGHTS[3])
    assert sampled.replicates[1, 3] == pytest.approx(drawn_again.mean())
    assert (sampled.pictures, sampled.independent) == (8, 8)


def test_one_picture_has_no_spread(values):
    sampled = sample_means({0: values[0, :1]}, picture_weights(1, 20, "one"))
    assert sampled.pictures == 1
    assert not sampled.resampled


def test_sets_are_resampled_with_their_reference():
    random = np.random.default_rng(0)
    drawn, reference = random.normal(size=(2, 8, 4)), random.normal(size=(12, 4))
    other = picture_weights(12, 20, "held out")
    kernels = {seed: cmmd_kernels(each, reference) for seed, each in enumerate(drawn)}
    sampled = sample_discrepancies(kernels, WEIGHTS, other)
    assert sampled.points[1] == discrepancy(kernels[1])[0]
    assert sampled.replicates[1] == pytest.approx(discrepancy(kernels[1], WEIGHTS, other))
    assert (sampled.pictures, sampled.independent) == (8, 8)
    distances = {seed: cosine_distances(each) for seed, each in enumerate(drawn)}
    sampled = sample_diversities(distances, WEIGHTS)
    assert sampled.points[0] == diversity(distances[0])[0]
    assert sampled.replicates[0] == pytest.approx(diversity(distances[0], WEIGHTS))


def test_sets_of_too_few_pictures_are_refused_in_one_line():
    distances = {0: np.zeros((7, 7))}
    with pytest.raises(RecipeError, match=r"^7 pictures: a distance between sets needs 8.*$"):
        sample_diversities(distances, picture_weights(7, 20, "few"))


def test_values_of_whole_runs_are_not_resampled():
    sampled = sample_values({1: 2.5, 2: 3.5})
    assert sampled.points.tolist() == [2.5, 3.5]
    assert not sampled.resampled
    assert sampled.pictures == 0


def test_a_difference_is_over_the_seeds_that_both_have(values):
    first = sample_means({1: values[0], 2: values[1]}, WEIGHTS)
    second = sample_means({3: values[0], 2: values[2]}, WEIGHTS)
    difference = subtract(first, second)
    assert difference is not None
    assert difference.seeds == (2,)
    paired = sample_means({2: values[1] - values[2]}, WEIGHTS)
    assert difference.points == pytest.approx(paired.points)
    assert difference.replicates == pytest.approx(paired.replicates)
    assert subtract(sample_values({1: 1.0}), sample_values({2: 1.0})) is None


def test_the_base_is_taken_off_every_seed(values):
    arm = sample_means({1: values[0], 2: values[1]}, WEIGHTS)
    difference = subtract(arm, sample_means({None: values[2]}, WEIGHTS))
    assert difference is not None
    assert difference.seeds == (1, 2)
    assert difference.points == pytest.approx(values[:2].mean(axis=1) - values[2].mean())


def test_samples_of_other_pictures_are_not_paired(values):
    first = sample_means({1: values[0]}, WEIGHTS)
    second = sample_means({1: values[0, :7]}, picture_weights(7, 20, "prompts"))
    with pytest.raises(AssertionError, match="not over the same pictures"):
        subtract(first, second)
