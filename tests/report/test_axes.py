import pytest

from rasengan_xl.report.axes import Axis, cover, trim


def labels(low, high, most=5):
    return [tick.label for tick in Axis(low=low, high=high, start=0, end=100).make_ticks(most)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 300, ["0", "100", "200", "300"]),
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.04, 0.21, ["0.05", "0.10", "0.15", "0.20"]),
        (0, 5000, ["0", "1,000", "2,000", "3,000", "4,000", "5,000"]),
        (0, 0.0125, ["0.0000", "0.0025", "0.0050", "0.0075", "0.0100", "0.0125"]),
    ],
)
def test_ticks_are_round(low, high, expected):
    most = 3 if high == 300 else 5
    assert labels(low, high, most) == expected


def test_negative_ticks_have_a_minus_sign_and_nought_has_none():
    assert labels(-0.1, 0.1, 2) == ["\N{MINUS SIGN}0.1", "0.0", "0.1"]


def test_a_value_is_placed_in_proportion():
    axis = Axis(low=10, high=20, start=300, end=100)
    assert [axis.place(value) for value in (10, 15, 20)] == [300, 200, 100]
    assert axis.holds(10)
    assert not axis.holds(20.1)


@pytest.mark.parametrize("values", [[], [0.0], [0.5, 0.5], [-3.0, 7.0]])
def test_a_range_is_never_empty(values):
    low, high = cover(values)
    assert low < high
    assert all(low < value < high for value in values)


def test_trimming_drops_a_few_outliers():
    assert trim([*range(100), 10_000])[1] < 100
    assert trim([]) == []
    assert trim([3.0]) == [3.0, 3.0]
