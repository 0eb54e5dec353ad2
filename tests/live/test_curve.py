import math

import pytest

from rasengan_xl.live.curve import Curve


def thin(losses, most_points):
    curve = Curve(most_points)
    for step, loss in enumerate(losses, start=1):
        curve.add(step, loss)
    return curve.thin()


def test_a_short_curve_is_kept_whole():
    assert thin([0.3, 0.2, 0.1], 3).points == [(1, 0.3), (2, 0.2), (3, 0.1)]


def test_a_long_curve_is_made_of_means():
    curve = thin([1, 3, 5, 7, 9], 3)
    assert curve.steps_per_point == 2
    assert curve.points == [(2, 2.0), (4, 6.0), (5, 9.0)]


@pytest.mark.parametrize("steps", [300, 301, 1000, 12_345])
def test_a_curve_never_has_more_points_than_it_may(steps):
    losses = [1 / step for step in range(1, steps + 1)]
    curve = thin(losses, 300)
    assert 150 <= len(curve.points) <= 300
    assert curve.points[-1][0] == steps
    first = losses[: curve.steps_per_point]
    assert curve.points[0][1] == pytest.approx(math.fsum(first) / len(first))


def test_a_loss_that_is_no_number_is_left_out():
    assert thin([0.3, math.nan, math.inf, 0.1], 10).points == [(1, 0.3), (4, 0.1)]
