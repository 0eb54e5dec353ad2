import pytest

from rasengan_xl.config.comparison import differences, load_comparison
from rasengan_xl.config.recipe import load_recipe
from rasengan_xl.config.shipped import (
    comparison_names,
    copy_shipped,
    describe_recipe,
    find_shipped,
    recipe_names,
)
from rasengan_xl.errors import RecipeError


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_sound_and_says_what_it_is(name):
    load_recipe(name)
    assert len(describe_recipe(find_shipped(name))) > 20


@pytest.mark.parametrize("name", comparison_names())
def test_every_shipped_comparison_is_sound_and_differs_in_the_adapter_alone(name):
    assert len(describe_recipe(find_shipped(name))) > 20
    comparison = load_comparison(name)
    assert comparison.name == name
    assert len(comparison.arms) >= 4
    for values in differences(comparison.arms).values():
        assert all(key.startswith("adapter.") for key in values)


def test_own_keys_come_after_what_a_recipe_extends_and_overrides_last(tmp_path):
    (tmp_path / "below.toml").write_text("seed = 1\n[adapter]\nrank = 4\nalpha = 5\n")
    (tmp_path / "mine.toml").write_text('extends = "below.toml"\n[adapter]\nrank = 8\n')
    settings = load_recipe(str(tmp_path / "mine.toml"), ["adapter.alpha=6", "base_model=mini"])
    assert (settings.seed, settings.adapter.rank, settings.adapter.alpha) == (1, 8, 6)
    assert settings.base_model == "mini"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("adapter.rnak=8", "adapter.rnak: no such key, did you mean 'rank'?"),
        ("adaptr.rank=8", "adaptr: no such key, did you mean 'adapter'?"),
        ("adapter.rank=0", "adapter.rank = 0: Input should be greater than 0"),
        ("adapter.rank=many", "adapter.rank = 'many'"),
        ("training.warmup_steps=900", "warmup_steps (900) must be below steps (320)"),
        ("dataset.resolution=100", "dataset.resolution = 100"),
        ("dataset.crops_per_picture=3", 'needs crop = "random"'),
        ("adapter.base_precision=int3", "adapter.base_precision = 'int3'"),
        ("rank", "write key=value"),
    ],
)
def test_a_mistake_is_one_line_with_key_value_and_remedy(override, expected):
    with pytest.raises(RecipeError) as caught:
        load_recipe("mini-lora", [override])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_is_answered_with_the_closest():
    with pytest.raises(RecipeError, match="did you mean 'mini-lora'"):
        load_recipe("mini-lroa")


def test_a_missing_file_and_bad_toml_are_one_line(tmp_path):
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_text("seed = = 1")
    with pytest.raises(RecipeError, match="bad.toml"):
        load_recipe(str(tmp_path / "bad.toml"))


def test_recipes_that_extend_each_other_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a.toml").write_text('extends = "b.toml"')
    (tmp_path / "b.toml").write_text('extends = "a.toml"')
    with pytest.raises(RecipeError, match="extends itself"):
        load_recipe(str(tmp_path / "a.toml"))


def test_an_override_of_a_comparison_holds_for_every_arm():
    comparison = load_comparison("mini", ["training.steps=50", "dataset.source=here"])
    assert {arm.training.steps for arm in comparison.arms.values()} == {50}
    assert {arm.dataset.source for arm in comparison.arms.values()} == {"here"}


def test_an_override_that_the_arms_would_hide_is_refused():
    with pytest.raises(RecipeError, match="set adapter.rank themselves"):
        load_comparison("mini", ["adapter.rank=8"])


def test_one_arm_can_be_overridden():
    comparison = load_comparison("mini", ["arms.dora.adapter.rank=8"])
    assert comparison.arms["dora"].adapter.rank == 8
    assert comparison.arms["lora"].adapter.rank == 16
    with pytest.raises(RecipeError, match="no arm 'dorra'"):
        load_comparison("mini", ["arms.dorra.adapter.rank=8"])


@pytest.mark.parametrize("name", ["mini", "naruto-sdxl"])
def test_the_four_methods_are_compared_as_published(name):
    assert list(load_comparison(name).arms) == ["lora", "qlora-normal", "qlora-aggressive", "dora"]


def test_a_comparison_takes_the_tables_of_those_it_extends_and_lays_its_own_over_them():
    mini, full = load_comparison("mini-one-factor"), load_comparison("one-factor")
    assert mini.arms.keys() == full.arms.keys()
    assert (mini.seeds, mini.design) == (full.seeds, full.design) == ((0, 1, 2), "one-factor")
    assert mini.arms["lora"].base_model == "mini"
    assert mini.arms["lora"].engine.memory == "auto", "nothing of the lower base is left"
    assert mini.scoring.encoders == ("reader",)


def test_comparisons_that_extend_each_other_in_a_circle_are_refused(tmp_path):
    (tmp_path / "one.toml").write_text('extends = "two.toml"\n')
    (tmp_path / "two.toml").write_text('extends = "one.toml"\n')
    with pytest.raises(RecipeError, match="extends itself"):
        load_comparison(str(tmp_path / "one.toml"))


def test_the_keys_of_the_comparison_itself_can_be_overridden():
    comparison = load_comparison("mini", ["seeds=[0,1,2]", "scoring.pictures=5"])
    assert comparison.seeds == (0, 1, 2)
    assert comparison.scoring.pictures == 5
    assert comparison.scoring.encoders == ("reader",)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=3", "write seeds = [3]"),
        ("seeds=[1,1]", "names one twice"),
        ("seeds=[]", "seeds"),
        ("arms.lora.dataset.flip=true", "the arms differ in dataset.flip"),
        ("scoring.encoder=['clip']", "did you mean 'encoders'"),
        ("design=one-factor", "one-factor"),
    ],
)
def test_a_mistake_in_a_comparison_is_one_line(override, expected):
    with pytest.raises(RecipeError) as caught:
        load_comparison("mini", [override, 'varies=["adapter","dataset"]'])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_arm_cannot_have_a_name_that_the_report_needs(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'extends = "parts/mini"\nname = "mine"\nvaries = ["adapter"]\n[base]\n'
        'extends = "mini-base"\n[arms.base]\nextends = "methods/lora"\n'
    )
    with pytest.raises(RecipeError, match="an arm cannot be called 'base'"):
        load_comparison(str(file))


def test_an_undeclared_difference_is_refused():
    with pytest.raises(RecipeError, match="differ in training.learning_rate"):
        load_comparison("mini", ["arms.dora.training.learning_rate=1e-3"])
    allowed = load_comparison(
        "mini", ["arms.dora.training.learning_rate=1e-3", 'varies=["adapter", "training"]']
    )
    assert differences(allowed.arms)["dora"]["training.learning_rate"] == 1e-3


def test_a_copied_recipe_works_as_it_is(tmp_path):
    copied = copy_shipped("mini-lora", tmp_path / "mine.toml")
    assert load_recipe(str(copied)) == load_recipe("mini-lora")
    with pytest.raises(RecipeError, match="cannot be written"):
        copy_shipped("mini-lora", copied)
    copied = copy_shipped("naruto-sdxl", tmp_path / "compare.toml")
    assert load_comparison(str(copied)) == load_comparison("naruto-sdxl")


def test_a_digest_without_a_start_is_refused():
    with pytest.raises(RecipeError, match="start_digest is of nothing without start_from"):
        load_recipe("lora", ["adapter.start_digest=abc"])
