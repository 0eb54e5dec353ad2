import math

import numpy as np
import pytest
from scipy import stats

from rasengan_xl.evaluation.distances import cmmd_kernels, discrepancy, kid_kernels
from rasengan_xl.evaluation.intervals import (
    Spread,
    chance_of,
    estimate,
    estimate_difference,
    find_spread,
)
from rasengan_xl.evaluation.resampling import DRAWS, picture_weights
from rasengan_xl.evaluation.samples import sample_discrepancies, sample_means, sample_values

NORMAL = (lambda random, n: random.normal(3, 1, n), 3.0)
SKEWED = (lambda random, n: random.lognormal(0, 0.5, n), math.exp(0.125))


def share_covered(estimates, truth):
    return np.mean([e.low <= truth <= e.high for e in estimates])


def test_without_pictures_the_interval_is_the_t_interval_over_seeds():
    values = [2.5, 3.0, 3.2, 2.9]
    found = estimate(sample_values(dict(enumerate(values))))
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert (found.pictures, found.seeds) == (0, 4)
    other = [2.4, 2.8, 3.3, 2.5]
    chance = chance_of(sample_values(dict(enumerate(np.subtract(values, other)))))
    assert chance == pytest.approx(stats.ttest_rel(values, other).pvalue, rel=1e-6)


def test_where_seeds_agree_the_interval_is_the_t_interval_over_pictures():
    values = np.random.default_rng(0).normal(0.3, 1, 30)
    sampled = sample_means(dict.fromkeys(range(3), values), picture_weights(30, DRAWS, "a"))
    found = estimate(sampled)
    expected = stats.t.interval(0.95, 29, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, abs=0.02)
    assert chance_of(sampled) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=0.1)


def test_the_variances_over_seeds_and_pictures_are_those_of_the_two_way_table():
    values = np.random.default_rng(1).normal(size=(4, 25))
    spread = find_spread(sample_means(dict(enumerate(values)), picture_weights(25, 20000, "a")))
    assert spread is not None
    assert spread.over_seeds == pytest.approx(values.mean(axis=1).var(ddof=1) / 4)
    assert spread.over_pictures == pytest.approx(values.mean(axis=0).var(ddof=1) / 25, rel=0.03)


def test_an_interval_over_both_is_satterthwaites_and_never_narrower_than_over_seeds():
    by_pictures = Spread(over_seeds=0.01, over_pictures=2.0, seeds=3, pictures=20)
    freedom = 2.01**2 / (0.01**2 / 2 + 2.0**2 / 19)
    assert by_pictures.reach(0.05) == pytest.approx(stats.t.isf(0.025, freedom) * math.sqrt(2.01))
    by_seeds = Spread(over_seeds=1.0, over_pictures=2.0, seeds=3, pictures=20)
    assert by_seeds.reach(0.05) == pytest.approx(stats.t.isf(0.025, 2))


def test_one_seed_has_an_interval_over_pictures_but_no_p_value():
    values = np.random.default_rng(2).normal(size=(2, 40))
    weights = picture_weights(40, DRAWS, "a")
    found = estimate(sample_means({7: values[0]}, weights))
    expected = stats.t.interval(0.95, 39, values[0].mean(), stats.sem(values[0]))
    assert (found.low, found.high) == pytest.approx(expected, abs=0.03)
    assert chance_of(sample_means({7: values[0]}, weights)) is None
    base = sample_means({None: values[1]}, weights)
    assert estimate(base).seeds == 0
    difference = estimate_difference(sample_means({7: values[0]}, weights), base)
    assert difference is not None
    assert difference.value == pytest.approx((values[0] - values[1]).mean())


def test_a_single_value_has_no_interval():
    found = estimate(sample_values({1: 4.0}))
    assert (found.value, found.low, found.high) == (4.0, None, None)
    assert chance_of(sample_values({1: 4.0})) is None


def test_what_does_not_vary_has_an_interval_of_no_width():
    found = estimate(sample_values({1: 4.0, 2: 4.0}))
    assert (found.low, found.high) == (4.0, 4.0)
    assert chance_of(sample_values({1: 4.0, 2: 4.0})) == 0
    assert chance_of(sample_values({1: 0.0, 2: 0.0})) == 1
    constant = sample_means({1: np.zeros(9), 2: np.zeros(9)}, picture_weights(9, 20, "a"))
    assert chance_of(constant) == 1


def test_a_difference_beyond_all_doubt_has_a_p_value_of_nought():
    assert chance_of(sample_values({seed: 1 + 1e-12 * seed for seed in range(30)})) == 0


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("ratio", [0.1, 1, 10, 100])
@pytest.mark.parametrize("chance", [0.05, 0.005])
def test_a_reach_is_passed_hardly_more_often_than_it_says(seeds, ratio, chance):
    """Whatever the ratio of the variances: normal means, variances as chi-squares, 48 pictures."""
    random = np.random.default_rng(0)
    count = 10_000
    distances = np.abs(random.normal(0, math.sqrt(1 + ratio), count))
    over_seeds = ratio * random.chisquare(seeds - 1, count) / (seeds - 1)
    over_pictures = random.chisquare(47, count) / 47
    passed = [
        distance > Spread(over_seeds=a, over_pictures=b, seeds=seeds, pictures=48).reach(chance)
        for distance, a, b in zip(distances, over_seeds, over_pictures, strict=True)
    ]
    by_chance = 3 * math.sqrt(chance / count)
    assert np.mean(passed) < chance * (1.25 if seeds > 3 else 1.05) + by_chance


@pytest.mark.slow
@pytest.mark.parametrize("distribution", [NORMAL, SKEWED], ids=["normal", "skewed"])
@pytest.mark.parametrize("pictures", [16, 32, 64])
def test_means_of_one_seed_are_covered_by_93_to_97_percent(distribution, pictures):
    draw, truth = distribution
    random = np.random.default_rng(0)
    weights = picture_weights(pictures, DRAWS, "a")
    found = [estimate(sample_means({0: draw(random, pictures)}, weights)) for _ in range(1500)]
    assert 0.93 <= share_covered(found, truth) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernels", "shift"), [(cmmd_kernels, 0), (cmmd_kernels, 1), (kid_kernels, 1)]
)
def test_discrepancies_of_one_seed_are_covered(kernels, shift):
    """By 93 to 97 % of intervals where the sets differ, by more where they do not."""
    random = np.random.default_rng(0)

    def draw(count, shift):
        return (
            2 + random.normal(size=(count, 16)) / np.sqrt(1 + np.arange(16)) + shift * np.eye(16)[0]
        )

    large = [discrepancy(kernels(draw(1000, shift), draw(1000, 0)))[0] for _ in range(6)]
    weights = picture_weights(48, 400, "drawn"), picture_weights(64, 400, "reference")
    found = []
    for _ in range(600):
        each = kernels(draw(48, shift), draw(64, 0))
        found.append(estimate(sample_discrepancies({0: each}, *weights)))
    covered = share_covered(found, np.mean(large))
    assert covered >= 0.93
    assert shift == 0 or covered <= 0.97


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1])
def test_a_share_that_is_alike_for_all_pictures_has_no_interval(seeds, value):
    rows = {seed: np.full(16, value) for seed in range(seeds)}
    found = estimate(sample_means(rows, picture_weights(16, 50, "a")))
    assert (found.value, found.low, found.high) == (pytest.approx(value), None, None)


def test_a_difference_alike_for_all_pictures_is_as_sure_as_there_are_pictures():
    rows = {seed: np.ones(16) for seed in range(3)}
    assert chance_of(sample_means(rows, picture_weights(16, 50, "a"))) == 2.0**-15
    one = sample_means({0: np.ones(16)}, picture_weights(16, 50, "a"))
    assert chance_of(one) is None


def test_seeds_that_differ_have_an_interval_though_pictures_of_each_are_alike():
    rows = {0: np.zeros(16), 1: np.ones(16)}
    found = estimate(sample_means(rows, picture_weights(16, 50, "a")))
    assert found.low is not None
    assert found.low < 0.5 < found.high


def test_equal_runs_without_pictures_keep_their_interval():
    found = estimate(sample_values({0: 2.0, 1: 2.0}))
    assert (found.low, found.high) == (2.0, 2.0)
