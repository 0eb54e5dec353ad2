import numpy as np
import pytest
from scipy.linalg import sqrtm

from rasengan_xl.evaluation.frechet import frechet_distance, frechet_refusal


def test_a_frechet_distance_needs_pictures_by_the_thousand():
    assert frechet_refusal(2048, 5000) is None
    told = frechet_refusal(48, 5000)
    assert told is not None
    assert "48 drawn" in told
    assert "2,048" in told


def test_the_frechet_distance_is_that_of_its_formula():
    random = np.random.default_rng(2)
    first, second = random.normal(0, 1, (50, 5)), random.normal(1, 2, (60, 5))
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    apart = first.mean(axis=0) - second.mean(axis=0)
    expected = apart @ apart + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
