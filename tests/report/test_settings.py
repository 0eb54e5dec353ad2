import pytest

from rasengan_xl.report.numbers import MISSING
from rasengan_xl.report.settings import flatten, group_shared, list_differences, write_setting

from .sample import build_arm


def test_settings_are_named_by_their_dotted_key():
    nested = {"seed": 7, "adapter": {"rank": 16, "targets": ["to_q"]}, "empty": {}}
    assert flatten(nested) == {
        "seed": 7,
        "adapter.rank": 16,
        "adapter.targets": ["to_q"],
        "empty": {},
    }


@pytest.mark.parametrize("differs", [{"adapter.rank": 32}, {"adapter": {"rank": 32}}])
def test_differences_may_be_dotted_or_nested(differs):
    (difference,) = list_differences([build_arm(differs=differs)])
    assert (difference.key, difference.values) == ("adapter.rank", ["32"])


def test_an_arm_without_a_setting_that_others_have_is_left_blank():
    arms = [build_arm(differs={"a": 1}), build_arm(differs={"b": True})]
    values = {difference.key: difference.values for difference in list_differences(arms)}
    assert values == {"a": ["1", MISSING], "b": [MISSING, "true"]}


def test_shared_settings_are_those_that_all_arms_have_alike():
    first = build_arm(settings={"seed": 7, "adapter": {"rank": 16, "alpha": 32.0}})
    second = build_arm(settings={"seed": 7, "adapter": {"rank": 32, "alpha": 32.0}})
    assert group_shared([first, second]) == {"": {"seed": "7"}, "adapter": {"alpha": "32"}}
    assert group_shared([]) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "true"),
        (1e-4, "0.0001"),
        (5.0, "5"),
        (["to_q", "to_k"], "to_q, to_k"),
        ([], "none"),
        ("nf4", "nf4"),
        (600, "600"),
    ],
)
def test_a_value_is_written_as_in_a_recipe(value, text):
    assert write_setting(value) == text


def test_long_lists_and_shapes_of_many_layers_take_one_line():
    shapes = [{"layer": f"blocks.{i}", "rank": 4 + i, "alpha": 8.0} for i in range(56)]
    assert write_setting(shapes) == "56 layers of another: rank 4 to 59, alpha 8"
    assert write_setting([f"to_{i}" for i in range(20)]) == (
        "to_0, to_1, to_2, to_3, to_4, to_5, to_6, to_7, and 12 more"
    )
