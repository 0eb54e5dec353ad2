from rasengan_xl.report.figures import make_figures
from rasengan_xl.report.reading import LossHistory


def history(steps=40, **changes):
    return LossHistory(losses={step: 0.1 + 0.5 / step for step in range(1, steps + 1)}, **changes)


def test_arms_that_saw_the_same_are_set_against_the_first(make_arm):
    arms = [make_arm("lora"), make_arm("dora"), make_arm("qlora")]
    figures = make_figures(arms, {arm.name: history() for arm in arms})
    assert figures.reference == "lora"
    assert [line.name for line in figures.differences.wide.lines] == ["dora", "qlora"]
    assert [line.index for line in figures.differences.wide.lines] == [1, 2]


def test_arms_that_saw_different_things_are_not_set_against_each_other(make_arm):
    arms = [make_arm("lora"), make_arm("dora", trace_hash="another")]
    figures = make_figures(arms, {arm.name: history() for arm in arms})
    assert figures.losses is not None
    assert figures.differences is None


def test_a_failed_arm_is_drawn_as_far_as_it_came_and_compared_with_nothing(
    make_arm, make_failed_arm
):
    arms = [make_arm("lora"), make_arm("dora"), make_failed_arm("qlora")]
    histories = {"lora": history(), "dora": history(), "qlora": history(9)}
    figures = make_figures(arms, histories)
    assert [line.name for line in figures.losses.wide.lines] == ["lora", "dora", "qlora"]
    assert [line.name for line in figures.differences.wide.lines] == ["dora"]
    assert [interval.name for interval in figures.intervals.wide.intervals] == ["lora", "dora"]


def test_what_the_drawings_lack_is_said(make_arm, make_failed_arm):
    arms = [make_arm("lora"), make_failed_arm("dora")]
    figures = make_figures(arms, {"lora": history(left_out=1), "dora": LossHistory(losses={})})
    assert figures.left_out == [
        "lora: 1 line of steps.jsonl without a finite loss left out.",
        "dora: no steps were recorded, so it has no line.",
    ]


def test_nothing_measured_draws_nothing(make_failed_arm):
    figures = make_figures([make_failed_arm("dora")], {"dora": LossHistory(losses={})})
    assert (figures.losses, figures.differences, figures.intervals) == (None, None, None)


def test_captions_name_the_window_and_n(make_arm):
    arms = [make_arm("lora"), make_arm("dora")]
    figures = make_figures(arms, {arm.name: history(300) for arm in arms})
    assert "running mean over 25 steps" in figures.losses.caption
    assert "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}256" in figures.intervals.caption


def test_a_short_run_is_not_smoothed(make_arm):
    figures = make_figures([make_arm("lora")], {"lora": history(3)})
    assert figures.losses.caption.startswith("Lines join single steps.")
