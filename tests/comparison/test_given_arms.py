import pytest
import torch
from safetensors.torch import save_file

from rasengan_xl.cli.planning import Request, show_plan
from rasengan_xl.comparison.execute import run_comparison
from rasengan_xl.comparison.result import RESULT_FILE, Comparison
from rasengan_xl.comparison.start_arms import settle_arms
from rasengan_xl.errors import RecipeError
from rasengan_xl.report.page import write_report
from rasengan_xl.runs.verification import Check
from rasengan_xl.training import run

LAYER = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.fixture(scope="module")
def loha_file(tmp_path_factory):
    torch.manual_seed(4)
    file = tmp_path_factory.mktemp("their") / "loha.safetensors"
    tensors = {f"{LAYER}.hada_{n}_{f}": torch.randn(s) for n in ("w1", "w2") for f, s in SHAPES}
    save_file({**tensors, f"{LAYER}.alpha": torch.tensor(2.0)}, file)
    return file


SHAPES = (("a", (64, 2)), ("b", (2, 64)))


@pytest.fixture
def given(loha_file):
    return {"adapter": {"start_from": str(loha_file)}, "training": {"steps": 0}}


def test_a_given_adapter_is_judged_beside_trained_ones(
    comparison, folder, place, given, loha_file, capsys
):
    short = {"training": {"steps": 2}}
    few = {"pictures": 2}
    settings = comparison({"ours": short, "theirs": given}, seeds=[0, 1], scoring=few)
    list(run_comparison(settings, folder.root, place=place))
    result = read(folder)
    ours, theirs = result.arms
    assert theirs.given == "loha.safetensors (LyCORIS): LoHa on 1 layer of unet, rank 2"
    assert ours.given is None
    assert theirs.trainable_parameters == 4 * 2 * 64
    assert theirs.flops_per_step is None
    assert [run.status for run in theirs.runs] == ["finished"] * 2
    assert [run.seconds for run in theirs.runs] == [None, None]

    measures = {measure.key: measure for measure in result.measures}
    loss = measures["held_out_loss"].arms["theirs"]
    assert loss.value != measures["held_out_loss"].base.value
    assert loss.low < loss.value < loss.high  # over pictures
    costs = [
        key for key, each in measures.items() if "theirs" in each.arms and each.group == "cost"
    ]
    assert costs == ["seconds_per_picture"]
    verdict = next(v for v in result.verdicts if v.measure == "held_out_loss")
    assert (verdict.first, verdict.second, verdict.seeds) == ("ours", "theirs", 2)
    assert verdict.outcome != "not judged"
    assert result.equal_time is None
    told = next(note for note in result.notes if note.startswith("theirs: is given, not trained"))
    assert "saw the held-out pictures is not known" in told
    assert {"ours", "theirs"} == set(result.pictures[0].arms)
    drawn = [folder.drawn(name).picture_file("shown", 0) for name in ("base", "theirs/seed-0")]
    assert drawn[0].read_bytes() != drawn[1].read_bytes()

    page = write_report(folder.root).read_text()
    assert "loha.safetensors (LyCORIS)" in page
    assert "NaN" not in page
    place.orders.clear()
    list(run_comparison(settings, folder.root, place=place))
    assert place.runs == []  # all is kept
    show_plan(Request(settings=settle_arms(settings), folder=folder.root, only=(), command=""))
    assert "not trained" in capsys.readouterr().out


def test_an_arm_that_goes_on_from_an_adapter_is_told_of_and_fails_if_it_fails_verification(
    comparison, folder, place, loha_file, monkeypatch
):
    start = {"adapter": {"start_from": str(loha_file)}, "training": {"steps": 2}}
    few = {"pictures": 2}
    settings = comparison({"on": start}, scoring=few)
    verify = run.verify_run
    fault = Check(name="saved", status="failed", detail="spoiled")

    def find_fault(*of):
        return verify(*of).model_copy(update={"passed": False, "checks": [fault]})

    with monkeypatch.context() as patch:
        patch.setattr(run, "verify_run", find_fault)
        list(run_comparison(settings, folder.root, place=place))
    (failed,) = read(folder).arms[0].runs
    assert (failed.status, failed.summary) == ("failed", None)
    assert "failed its verification: saved: spoiled" in failed.reason

    list(run_comparison(settings, folder.root, place=place))  # it is verified anew
    result = read(folder)
    assert [each.status for each in result.arms[0].runs] == ["finished"]
    assert any(note.startswith("on: goes on from loha.safetensors") for note in result.notes)


def read(folder):
    return Comparison.model_validate_json((folder.root / RESULT_FILE).read_text())


def test_the_settings_of_a_given_arm_are_its_files(comparison, given):
    arm = settle_arms(comparison({"theirs": given})).arms["theirs"]
    assert (arm.adapter.rank, arm.adapter.alpha) == (2, 2)
    assert arm.adapter.targets == ("down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",)


def test_what_a_file_changes_must_be_among_what_varies(comparison, given):
    narrow = comparison(
        {"ours": {}, "theirs": given}, varies=["adapter.start_from", "training.steps"]
    )
    with pytest.raises(RecipeError, match="the arms differ in adapter"):
        settle_arms(narrow)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"design": "matched"}, "cannot hold it to what nobody here has set"),
        ({"design": "one-factor"}, "cannot hold it to what nobody here has set"),
        ({"sweep": {"learning_rate": [1e-3, 1e-4]}}, "no learning rate for a sweep to find"),
    ],
)
def test_a_given_arm_is_neither_designed_nor_swept(comparison, given, changes, fault):
    with pytest.raises(ValueError, match=fault):
        comparison({"ours": {}, "theirs": given}, **changes)


@pytest.mark.parametrize(
    ("arm", "fault"),
    [
        ({"training": {"steps": 0}}, "name it by adapter.start_from"),
        (
            {"training": {"steps": 0}, "adapter": {"start_from": "a", "base_precision": "nf4"}},
            "on the unquantized base",
        ),
    ],
)
def test_only_what_is_given_may_go_untrained(settings, arm, fault):
    with pytest.raises(RecipeError, match=fault):
        settings(**arm)


def test_a_file_that_does_not_fit_is_named_with_its_arm(comparison, tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "bad.safetensors")
    arm = {"adapter": {"start_from": str(tmp_path / "bad.safetensors")}}
    with pytest.raises(Exception, match=r"arms\.theirs: .*bad\.safetensors"):
        settle_arms(comparison({"theirs": arm}))
