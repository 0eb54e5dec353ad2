import pytest

from rasengan_xl.report.numbers import (
    write_bytes,
    write_compact,
    write_count,
    write_counted,
    write_error,
    write_gib,
    write_loss,
    write_n,
    write_seconds,
    write_seconds_range,
    write_share,
    write_times,
    write_with_error,
)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.00 k"),
        (999_949, "1.00 M"),
        (23_224_320, "23.2 M"),
        (83_722_240, "83.7 M"),
        (2_567_463_684, "2.57 B"),
    ],
)
def test_a_large_number_has_three_digits(number, text):
    assert write_compact(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(12, "12 B"), (1_234_567, "1.23 MB"), (3_350_000_000, "3.35 GB")]
)
def test_a_file_size_is_decimal(number, text):
    assert write_bytes(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1384, "0.138 s"), (0.9999, "1.00 s"), (1.5, "1.50 s"), (12.34, "12.3 s"), (0.0, "0.00 s")],
)
def test_a_duration_has_three_digits(seconds, text):
    assert write_seconds(seconds) == text


@pytest.mark.parametrize(
    ("loss", "text"), [(0.13124, "0.1312"), (0.0, "0.0000"), (0.0001234, "0.000123")]
)
def test_a_loss_has_four_decimals_unless_they_say_nothing(loss, text):
    assert write_loss(loss) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-0.01237, 0.00112, "\N{MINUS SIGN}0.0124 \N{PLUS-MINUS SIGN} 0.0011"),
        (0.5, 0.25, "0.50 \N{PLUS-MINUS SIGN} 0.25"),
        (0.5, 0.0, "0.5000 \N{PLUS-MINUS SIGN} 0.0000"),
    ],
)
def test_a_value_has_the_decimals_of_its_error(value, error, text):
    assert write_with_error(value, error) == text


def test_other_figures_carry_their_unit():
    assert write_count(1221) == "1,221"
    assert write_counted(1, "arm") == "1 arm"
    assert write_counted(4, "arm") == "4 arms"
    assert write_gib(6.1) == "6.10 GiB"
    assert write_share(0.00896) == "0.896 %"
    assert write_share(0) == "0 %"
    assert write_seconds_range(0.134, 0.1467) == "0.134 to 0.147 s"
    assert write_times(1.9) == "1.90\N{MULTIPLICATION SIGN}"
    assert write_error(0.0041) == "\N{PLUS-MINUS SIGN} 0.0041"


def test_the_size_of_a_sample_holds_together():
    assert write_n(290).split(" ") == ["n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}290"]
