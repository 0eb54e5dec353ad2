import pytest

from rasengan_xl.report.intervals import NORMAL_95, draw_intervals


def test_arms_without_a_held_out_loss_draw_nothing(make_failed_arm):
    assert draw_intervals([make_failed_arm()], 500) is None
    assert draw_intervals([], 500) is None


def test_an_interval_reaches_as_far_on_both_sides_and_keeps_the_arm_s_colour(
    make_arm, make_failed_arm
):
    drawing = draw_intervals([make_failed_arm("qlora"), make_arm("lora")], 500)
    (interval,) = drawing.intervals
    assert (interval.name, interval.index) == ("lora", 1)
    assert interval.point - interval.low == pytest.approx(interval.high - interval.point, abs=0.2)


def test_an_interval_has_the_width_of_its_standard_error(make_arm, make_held_out_loss):
    loss = make_held_out_loss(difference=-0.5, standard_error=0.1)
    drawing = draw_intervals([make_arm("lora", held_out_loss=loss)], 1000)
    (interval,) = drawing.intervals
    per_unit = (drawing.nought - interval.point) / 0.5
    assert interval.high - interval.low == pytest.approx(2 * NORMAL_95 * 0.1 * per_unit, abs=0.5)


def test_nought_and_every_interval_lie_within_the_drawing(make_arm):
    drawing = draw_intervals([make_arm(name) for name in "abc"], 370)
    shape = drawing.shape
    marks = [mark for row in drawing.intervals for mark in (row.low, row.point, row.high)]
    assert all(shape.left <= mark <= shape.width - shape.right for mark in (*marks, drawing.nought))
    assert all(shape.top < row.y < shape.height - shape.bottom for row in drawing.intervals)


def test_an_interval_without_spread_is_drawn(make_arm, make_held_out_loss):
    loss = make_held_out_loss(difference=0.0, standard_error=0.0)
    (interval,) = draw_intervals([make_arm(held_out_loss=loss)], 370).intervals
    assert interval.low == interval.point == interval.high
