import re

import pytest

from rasengan_xl.report.curves import (
    MOST_POINTS,
    NARROW,
    WIDE,
    Curve,
    choose_window,
    draw_curves,
    smooth,
    subtract,
)


def curve(values, name="lora", index=0):
    return Curve(name=name, index=index, values=values)


def falling(steps):
    return {step: 0.1 + 0.5 / step for step in range(1, steps + 1)}


def places(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"([\d.-]+),([\d.-]+)", path)]


@pytest.mark.parametrize("shape", [WIDE, NARROW])
@pytest.mark.parametrize("steps", [1, 2, 300, 5000])
def test_a_line_stays_within_the_axes(shape, steps):
    (line,) = draw_curves([curve(dict.fromkeys(range(1, steps + 1), 0.1))], shape).lines
    for x, y in places(line.line + line.dots):
        assert shape.left <= x <= shape.width - shape.right
        assert shape.top <= y <= shape.height - shape.bottom


def test_a_single_step_is_a_dot():
    (line,) = draw_curves([curve({1: 0.1})], WIDE).lines
    assert line.line.endswith("h0")
    assert line.line.count("M") == 1


def test_an_arm_without_steps_has_an_empty_line():
    drawing = draw_curves([curve({}), curve({1: 0.1, 2: 0.2}, name="dora", index=1)], WIDE)
    assert drawing.lines[0].line == drawing.lines[0].dots == ""
    assert drawing.lines[1].line


def test_an_arm_that_stopped_early_ends_early():
    whole, short = draw_curves([curve(falling(300)), curve(falling(60), index=1)], WIDE).lines
    assert places(short.line)[-1][0] < places(whole.line)[-1][0] / 2


def test_a_long_run_is_thinned_and_keeps_its_last_step():
    (line,) = draw_curves([curve(falling(5000))], WIDE).lines
    points = places(line.line)
    assert len(points) <= MOST_POINTS
    assert points[-1][0] == WIDE.width - WIDE.right


def test_outliers_do_not_stretch_the_axis_and_are_counted():
    values = dict.fromkeys(range(1, 301), 0.1) | {150: 50.0}
    drawing = draw_curves([curve(values)], WIDE)
    assert drawing.outside == 1
    assert float(drawing.y_ticks[-1].label) < 5


@pytest.mark.parametrize(
    ("last", "labels"),
    [(1, ["0", "1"]), (3, ["0", "1", "2", "3"]), (22, ["0", "5", "10", "15", "20"])],
)
def test_ticks_name_whole_steps(last, labels):
    drawing = draw_curves([curve(falling(last))], WIDE)
    assert [tick.label for tick in drawing.x_ticks] == labels


def test_nought_is_in_range_when_it_is_asked_for():
    drawing = draw_curves([curve({1: 0.5, 2: 0.6})], WIDE, nought=True)
    assert drawing.nought is not None
    assert WIDE.top < drawing.nought < WIDE.height - WIDE.bottom


def test_smoothing_leaves_a_constant_alone():
    smoothed = smooth(curve(dict.fromkeys(range(50), 0.25)), window=9)
    assert list(smoothed) == list(range(50))
    assert list(smoothed.values()) == pytest.approx([0.25] * 50)


def test_smoothing_over_one_step_changes_nothing():
    values = {1: 0.3, 2: 0.1, 3: 0.2}
    assert smooth(curve(values), window=1) == pytest.approx(values)


def test_all_lines_share_the_window_of_the_longest():
    assert choose_window([curve(falling(300)), curve(falling(10))]) == 25
    assert choose_window([curve({1: 0.1})]) == 1
    assert choose_window([]) == 1


def test_a_difference_is_taken_where_both_arms_have_the_step():
    difference = subtract(curve({1: 0.3, 2: 0.5, 4: 1.0}, "dora", 1), curve({1: 0.1, 2: 0.2, 3: 9}))
    assert difference.values == pytest.approx({1: 0.2, 2: 0.3})
    assert (difference.name, difference.index) == ("dora", 1)
