import pytest

from rasengan_xl.report.numbers import (
    choose_decimals,
    write_bytes,
    write_compact,
    write_counted,
    write_difference,
    write_digits,
    write_duration,
    write_flops,
    write_interval,
    write_p_value,
    write_plain,
    write_rate,
    write_sample,
    write_seed_counts,
    write_share,
    write_times,
    write_value,
    write_with_interval,
    write_within,
)

MINUS = "\N{MINUS SIGN}"


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("value", "reach", "text"),
    [
        (0.118243, 0.0021, "0.1182"),
        (0.118243, 0.0007, "0.1182"),
        (0.118243, 0.04, "0.12"),
        (10.3142, 0.02, "10.31"),
        (6.0, 0.00001, "6.000000"),
        (-0.0003, 0.001, f"{MINUS}0.0003"),
        (-0.00001, 0.001, "0.0000"),
        (0.118243, None, "0.1182"),
        (10.3142, None, "10.31"),
        (0.0, None, "0.000"),
    ],
)
def test_a_value_is_written_to_what_its_interval_supports(value, reach, text):
    assert write_value(value, reach=reach) == text


def test_decimals_never_run_on():
    assert choose_decimals(0.1, 1e-12) == 6


def test_an_interval_has_its_unit_once_and_no_exponent():
    assert plain(write_interval(0.00001, 0.00003, "s")) == "[0.000010, 0.000030] s"
    assert write_interval(None, 0.3) == write_interval(0.3, None) == ""
    assert plain(write_with_interval(0.118, 0.116, 0.120)) == "0.1180 [0.1160, 0.1200]"
    assert plain(write_with_interval(6.1, None, None, "GiB")) == "6.100 GiB"


def test_a_difference_has_its_sign():
    assert write_difference(0.0011, reach=0.0004) == "+0.0011"
    assert write_difference(-0.0011, reach=0.0004) == f"{MINUS}0.0011"
    assert write_difference(0.00001, reach=0.04) == write_difference(-0.00001, reach=0.04) == "0.00"
    assert plain(write_difference(0.00001, "GiB/10", reach=0.04)) == "0.00 GiB/10"


def test_a_sample_names_what_it_is_over():
    assert plain(write_sample(64, 3)) == "n = 64 pictures \N{MULTIPLICATION SIGN} 3 seeds"
    assert plain(write_sample(0, 1)) == "n = 1 seed"
    assert plain(write_seed_counts([3, 2])) == "n = 2 to 3 seeds"
    assert plain(write_seed_counts([3])) == "n = 3 seeds"


def test_a_tiny_p_value_is_bounded():
    assert plain(write_p_value(0.0004)) == "p < 0.001"
    assert plain(write_p_value(0.018)) == "p = 0.018"
    assert write_p_value(None) == ""


def test_a_p_value_near_the_line_has_a_digit_more():
    assert plain(write_p_value(0.0496)) == "p = 0.0496"
    assert plain(write_p_value(0.0504)) == "p = 0.0504"
    assert plain(write_p_value(0.061)) == "p = 0.061"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3e-5, "0.00003"),
        (1e-17, "0"),
        (0.1 + 0.2, "0.3"),
        (12345678.9, "12345679"),
        (-0.25, f"{MINUS}0.25"),
        (1200.0, "1200"),
    ],
)
def test_a_plain_number_has_no_exponent_and_no_noughts_behind(value, text):
    assert write_plain(value) == text


def test_three_digits_never_run_on():
    assert write_digits(2.2e-16) == "0.000000"


@pytest.mark.parametrize(
    ("write", "number", "text"),
    [
        (write_compact, 23_224_320, "23.2 M"),
        (write_compact, 999_950, "1.00 M"),
        (write_compact, 12, "12"),
        (write_bytes, 92_937_493, "92.9 MB"),
        (write_bytes, 12, "12 B"),
        (write_flops, 2.13e13, "21.3 TFLOP"),
        (write_share, 0.00896, "0.896 %"),
        (write_share, 0, "0 %"),
        (write_times, 1.9245, "1.92\N{MULTIPLICATION SIGN}"),
        (write_rate, 3e-5, "0.00003"),
        (write_rate, 1.0, "1"),
        (write_duration, 16.6, "16.6 s"),
        (write_duration, 200, "3 min 20 s"),
        (write_duration, 7500, "2 h 5 min"),
    ],
)
def test_numbers_have_their_units(write, number, text):
    assert plain(write(number)) == text


def test_a_label_within_a_sentence_keeps_its_acronyms():
    assert write_within("Held-out loss") == "held-out loss"
    assert write_within("Distance by CLIP") == "distance by CLIP"
    assert write_within("CLIP score") == "CLIP score"
    assert write_within("") == ""


def test_one_thing_is_singular():
    assert [write_counted(n, "arm") for n in (0, 1, 4)] == ["0 arms", "1 arm", "4 arms"]
