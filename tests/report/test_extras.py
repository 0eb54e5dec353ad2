from rasengan_xl.report.extras import (
    describe_trial,
    list_at_equal_time,
    list_both_bases,
    list_sizes,
)

from .sample import build_arm, build_comparison


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_both_bases_are_compared_in_one_direction(rich_comparison):
    bare, normal, _ = list_both_bases(rich_comparison)
    assert (bare.name, bare.difference) == ("no adapter", "\N{MINUS SIGN}0.0019")
    assert plain(bare.interval) == "[\N{MINUS SIGN}0.0025, \N{MINUS SIGN}0.0013]"
    assert (normal.name, normal.difference) == ("qlora-normal", "+0.0011")
    assert list_both_bases(build_comparison(build_arm("lora"))) == []


def test_equal_time_names_the_time_and_the_steps(rich_comparison):
    time, rows = list_at_equal_time(rich_comparison)
    assert plain(time) == "16.6 s"
    assert [row.steps for row in rows] == ["120", "97", "77", "66"]
    assert "128 entries" in rows[0].sample
    assert list_at_equal_time(build_comparison(build_arm("lora"))) == ("", [])


def test_a_trial_has_its_error_and_n_or_its_reason(rich_comparison):
    low, _, failed = rich_comparison.sweep["lora"]
    assert plain(describe_trial(low)) == "0.1240 \N{PLUS-MINUS SIGN} 0.0020, n = 96"
    assert describe_trial(failed) == "failed: the loss diverged"


def test_sizes_are_exact():
    sizes = {key: plain(text) for key, text in list_sizes(build_arm("lora")).items()}
    assert sizes["Trainable parameters"] == "23,224,320 (0.896 %)"
    assert sizes["Arithmetic per step"] == "21.0 TFLOP"
    unknown = build_arm(trainable_parameters=None, adapter_bytes=None, flops_per_step=None)
    assert list_sizes(unknown) == {}
