from rasengan_xl.report.pareto import draw_tradeoffs, find_front

from .sample import build_arm, build_comparison, build_measures, estimate


def measure(values, **changes):
    first = build_measures(("a",))[0]
    return first.model_copy(
        update={"arms": {name: estimate(value) for name, value in values.items()}} | changes
    )


def test_an_arm_that_another_beats_in_both_is_not_on_the_front():
    quality, cost = measure({"a": 1, "b": 2, "c": 3}), measure({"a": 5, "b": 4, "c": 6})
    assert find_front(quality, cost) == ["b", "a"]


def test_the_front_heeds_where_higher_is_better():
    quality = measure({"a": 1, "b": 2}, direction="higher")
    assert find_front(quality, measure({"a": 5, "b": 4})) == ["b"]


def test_equal_arms_are_both_on_the_front():
    assert find_front(measure({"a": 1, "b": 1}), measure({"a": 2, "b": 2})) == ["a", "b"]


def test_an_arm_without_a_cost_is_left_out():
    assert find_front(measure({"a": 1, "b": 0}), measure({"a": 2})) == ["a"]


def test_quality_is_drawn_against_memory_and_time_with_the_front_marked():
    comparison = build_comparison(build_arm("lora"), build_arm("dora"))
    memory, time = draw_tradeoffs(comparison)
    assert memory.series == [(0, "lora"), (1, "dora")]
    assert "Rings mark arms that no other arm is at least as good as in both" in memory.caption
    assert "lora</text>" not in memory.wide  # the legend has the names
    assert "training time" in time.title
    assert {row[0]: row[-1] for row in time.table.rows} == {"lora": True, "dora": True}


def test_nothing_measured_draws_nothing():
    comparison = build_comparison(build_arm("lora"), measures=[], primary=None)
    assert draw_tradeoffs(comparison) == []
    only_loss = build_comparison(build_arm("lora"), measures=build_measures(("lora",))[:1])
    assert draw_tradeoffs(only_loss) == []
