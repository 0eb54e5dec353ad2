import pytest

from rasengan_xl.config.comparison import load_comparison
from rasengan_xl.config.designs import list_factors, name_factor, refuse_other_than_one_factor
from rasengan_xl.config.recipe import lay_over
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import RecipeError

FIRST = RunSettings()


def vary(**changes):
    tree = FIRST.model_dump()
    lay_over(tree, changes)
    return RunSettings.model_validate(tree)


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({"adapter": {"base_precision": "nf4"}}, "precision"),
        ({"adapter": {"decompose": True}}, "decomposition"),
        ({"adapter": {"rank": 32, "alpha": 64}}, "rank"),
        ({"adapter": {"rank": 9, "alpha": 18}}, "rank"),
        ({"adapter": {"alpha": 16}}, "scale alpha/rank"),
        ({"adapter": {"targets": ["to_q", "ff.net.2"]}}, "targets"),
        ({"adapter": {"rank_stabilized": True}}, "rank stabilization"),
        ({"adapter": {"dropout": 0.1}}, "dropout"),
        ({"training": {"learning_rate": 3e-4}}, "training.learning_rate"),
        ({"seed": 1}, "seed"),
    ],
)
def test_one_factor_is_named_and_let_through(changes, factor):
    arm = vary(**changes)
    assert name_factor(FIRST, arm) == factor
    refuse_other_than_one_factor({"lora": FIRST, "other": arm})


def test_a_rank_whose_alpha_stays_changes_the_scale_too():
    assert list_factors(FIRST, vary(adapter={"rank": 32})) == ["rank", "scale alpha/rank"]


def test_with_rank_stabilization_the_scale_is_over_the_root_of_the_rank():
    first = vary(adapter={"rank_stabilized": True, "rank": 16, "alpha": 32})
    same_scale = vary(adapter={"rank_stabilized": True, "rank": 64, "alpha": 64})
    assert list_factors(first, same_scale) == ["rank"]


def test_the_effect_of_two_factors_at_once_is_refused():
    aggressive = vary(adapter={"base_precision": "nf4", "rank": 32})
    with pytest.raises(RecipeError) as refusal:
        refuse_other_than_one_factor({"lora": FIRST, "aggressive": aggressive})
    assert "arms.aggressive: differs from arms.lora in 3 factors" in str(refusal.value)
    assert "(precision, rank, scale alpha/rank)" in str(refusal.value)
    assert "make an arm for each of them" in str(refusal.value)


def test_an_arm_equal_to_the_first_is_refused():
    with pytest.raises(RecipeError, match=r"arms\.twin: is the same as arms\.lora"):
        refuse_other_than_one_factor({"lora": FIRST, "twin": vary()})
    assert name_factor(FIRST, vary()) == "nothing"


@pytest.mark.parametrize("name", ["one-factor", "mini-one-factor"])
def test_the_shipped_design_changes_one_factor_an_arm(name):
    arms = load_comparison(name).arms
    refuse_other_than_one_factor(arms)
    assert {arm: name_factor(arms["lora"], settings) for arm, settings in arms.items()} == {
        "lora": "nothing",
        "nf4": "precision",
        "dora": "decomposition",
        "rank-32": "rank",
        "feed-forward": "targets",
        "scale-1": "scale alpha/rank",
    }


def test_the_four_seed_arms_are_no_one_factor_design():
    with pytest.raises(RecipeError, match=r"arms\.qlora-aggressive.*4 factors"):
        refuse_other_than_one_factor(load_comparison("naruto-sdxl").arms)


@pytest.mark.parametrize("name", ["matched", "mini-matched"])
def test_matched_arms_share_their_scale(name):
    for settings in load_comparison(name).arms.values():
        assert settings.adapter.alpha == 2 * settings.adapter.rank
