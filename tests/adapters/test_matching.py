import pytest
import torch

from rasengan_xl.adapters.inventory import predict_trainable_parameters
from rasengan_xl.adapters.matching import nearest_rank, refuse_unmatched
from rasengan_xl.config.comparison import load_comparison
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.config.shipped import find_shipped
from rasengan_xl.errors import RecipeError
from rasengan_xl.mini.architecture import build_unet
from rasengan_xl.sdxl.full_size import build_full_size_unet

WIDE = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
BUILDERS = {"full": build_full_size_unet, "mini": build_unet}
COUNTS = {
    ("full", "one-factor"): {
        "lora": 23_224_320,
        "nf4": 23_224_320,
        "dora": 23_889_920,
        "rank-32": 46_448_640,
        "feed-forward": 41_861_120,
        "scale-1": 23_224_320,
    },
    ("mini", "mini-one-factor"): {
        "lora": 243_712,
        "nf4": 243_712,
        "dora": 251_392,
        "rank-32": 487_424,
        "feed-forward": 458_752,
        "scale-1": 243_712,
    },
    ("full", "matched"): {
        "lora": 23_224_320,
        "qlora": 23_224_320,
        "lora-feed-forward": 23_546_880,
        "dora": 23_889_920,
    },
    ("mini", "mini-matched"): {
        "lora": 487_424,
        "qlora": 487_424,
        "lora-feed-forward": 487_424,
        "dora": 495_104,
    },
}


@pytest.fixture(scope="module")
def unets():
    with torch.device("meta"):
        return {name: build() for name, build in BUILDERS.items()}


@pytest.mark.parametrize(("model", "comparison"), COUNTS)
def test_each_arm_of_a_shipped_design_trains_what_its_file_says(unets, model, comparison):
    counts = {
        arm: predict_trainable_parameters(unets[model], settings.adapter)
        for arm, settings in load_comparison(comparison).arms.items()
    }
    assert counts == COUNTS[model, comparison]
    assert all(f"{count:,}" in find_shipped(comparison).read_text() for count in counts.values())


@pytest.mark.parametrize(("model", "comparison"), [("full", "matched"), ("mini", "mini-matched")])
def test_the_shipped_matched_designs_are_matched(unets, model, comparison):
    arms = {arm: settings.adapter for arm, settings in load_comparison(comparison).arms.items()}
    refuse_unmatched(unets[model], arms)


def test_an_arm_of_another_size_is_refused_with_the_rank_that_fits(unets):
    arms = {"lora": AdapterSettings(), "wide": AdapterSettings(targets=WIDE)}
    with pytest.raises(RecipeError) as refusal:
        refuse_unmatched(unets["full"], arms)
    assert "they train lora 23,224,320, wide 41,861,120" in str(refusal.value)
    assert "change wide: adapter.rank = 9 gives 23,546,880" in str(refusal.value)


def test_where_no_rank_fits_the_refusal_says_so(unets):
    arms = {"lora": AdapterSettings(), "wide": AdapterSettings(targets=WIDE)}
    with pytest.raises(RecipeError, match=r"no rank fits \(8 comes nearest with 229,376\)"):
        refuse_unmatched(unets["mini"], arms)


def test_the_tolerance_is_a_share_of_the_first_arm(unets):
    arms = {"lora": AdapterSettings(), "dora": AdapterSettings(decompose=True)}  # 2.87 % apart
    refuse_unmatched(unets["full"], arms, tolerance=0.03)
    with pytest.raises(RecipeError, match="dora"):
        refuse_unmatched(unets["full"], arms, tolerance=0.028)


@pytest.mark.parametrize(
    "settings", [AdapterSettings(targets=WIDE), AdapterSettings(decompose=True)]
)
@pytest.mark.parametrize("wanted", [1, 17_000, 243_712, 487_424])
def test_no_other_rank_comes_nearer(unets, settings, wanted):
    def distance(rank):
        adapter = settings.model_copy(update={"rank": rank})
        return abs(predict_trainable_parameters(unets["mini"], adapter) - wanted)

    found = nearest_rank(unets["mini"], settings, wanted)
    assert distance(found) == min(distance(rank) for rank in range(1, 64))
