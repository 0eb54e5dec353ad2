import json
from dataclasses import replace

import pytest

from rasengan_xl.cli import foretelling
from rasengan_xl.cli.foretelling import (
    Question,
    choose_gpus,
    describe_time,
    read_arms,
    show_plans,
    write_lap,
)
from rasengan_xl.errors import DeviceError, RecipeError
from rasengan_xl.planning.changes import Change
from rasengan_xl.planning.gpus import GIB, GPUS
from rasengan_xl.planning.known_costs import remember_steps
from rasengan_xl.planning.savings import Saving
from rasengan_xl.training import probing
from rasengan_xl.training.probing import Probed

SMALL = ("dataset.resolution=64",)


@pytest.fixture
def told(capsys, monkeypatch):
    """Return what is shown of some arms on some GPUs, in wide lines."""
    monkeypatch.setattr(foretelling.console, "width", 200)

    def tell(name, *gpus, overrides=SMALL, as_json=False, **more):
        arms, seeds = read_arms(name, overrides)
        capsys.readouterr()
        question = Question(arms=arms, seeds=seeds, gpus=gpus, **more)
        show_plans(question, as_json=as_json)
        return capsys.readouterr().out

    return tell


def test_each_arm_of_a_comparison_has_a_line_that_says_whether_it_fits(told):
    shown = told("mini", GPUS["T4"], price_per_hour=0.5)
    assert "On one T4 (14.6 GiB, float16), memory in GiB" in shown
    assert "lora, training, everything kept for the backward pass: " in shown
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    for arm in ("lora", "qlora-normal", "qlora-aggressive", "dora"):
        assert any(line.split()[:2] == [arm, "yes"] for line in shown.splitlines())
    assert "GiB allocated by PyTorch (" in shown
    assert "taken from the card" in shown
    assert " at 0.5 an hour" in lines["GPU"]
    assert "Seconds are predicted from" in shown


def test_what_does_not_fit_comes_with_what_would_help_up_to_what_is_enough(told, monkeypatch):
    changes = {"training.batch_size": 0.0, "adapter.base_precision": 0.1, "adapter.rank": 0.2}
    asked = [*SMALL, "engine.memory=recompute-all"]
    (plan,) = json.loads(told("mini-lora", GPUS["T4"], overrides=asked, as_json=True))
    held = plan["modes"][0]["card_gib"] - GPUS["T4"].context_gib - 16.25 / 1024
    offered = [
        Saving(
            change=Change(values={key: 1}, price="a price"),
            saves_gib=9.0,  # allocated: what counts is what is held
            reserved=int((held - saved) * GIB),
        )
        for key, saved in changes.items()
    ]
    monkeypatch.setattr(foretelling, "savings", lambda *_: iter(offered))
    tiny = replace(GPUS["T4"], memory_gib=0.36, context_gib=0.3)
    shown = told("mini-lora", tiny, overrides=asked)
    assert " NO " in shown
    assert "mini-lora needs 0.4 GiB to train; 0.3 can be counted on" in shown
    assert "--set training.batch_size=1  saves 0.0 GiB, 0.4 GiB are left (a price)" in shown
    assert "--set adapter.base_precision=1  saves 0.1 GiB, then it fits (a price)" in shown
    assert "adapter.rank" not in shown


def test_several_gpus_stand_below_one_another(told):
    shown = told("mini-lora", GPUS["T4"], GPUS["H200"])
    rows = [line for line in shown.splitlines() if " GiB)" in line]
    assert [row.split()[0] for row in rows] == ["T4", "H200"]
    assert all(" ms" in row for row in rows)


def test_a_model_that_is_not_here_is_planned_by_the_shape_of_sdxl(told, monkeypatch):
    monkeypatch.setattr(foretelling, "show_one_gpu", lambda plans, *_: None)
    monkeypatch.setattr(foretelling.Planner, "plan", lambda *_: _Nothing)
    shown = told("lora", GPUS["T4"], overrides=())
    assert shown.startswith("stabilityai/stable-diffusion-xl-base-1.0 is not here")


class _Nothing:
    seconds_per_step = None


def test_json_is_all_that_is_printed_and_measured_steps_win(told):
    gpu = replace(GPUS["T4"], name="a GPU of this test")
    (plan,) = json.loads(told("mini-lora", gpu, as_json=True))
    assert plan["phases"]["train"]["card_gib"] > plan["phases"]["train"]["allocated_gib"] > 0
    assert plan["engine"]["memory"] == "keep-all"
    assert plan["basis"].startswith("predicted from")
    arms, _ = read_arms("mini-lora", SMALL)
    slow = 10 * plan["seconds_per_step"]
    remember_steps(arms["mini-lora"], gpu.name, slow)
    (again,) = json.loads(told("mini-lora", gpu, as_json=True))
    assert again["seconds_per_step"] == slow
    assert again["basis"].startswith("measured on this")
    other = [*SMALL, "adapter.rank=2"]
    (corrected,) = json.loads(told("mini-lora", gpu, overrides=other, as_json=True))
    assert "corrected by 10.00 after 1" in corrected["basis"]


def test_a_mistake_is_told_in_one_line(told):
    with pytest.raises(RecipeError, match="give one of them"):
        choose_gpus("T4", 16.0)
    with pytest.raises(DeviceError, match="did you mean 'H200'"):
        choose_gpus("h20", None)
    with pytest.raises(RecipeError, match="unknown recipe"):
        read_arms("narto", ())
    with pytest.raises(RecipeError, match="base_precision to 'int8'"):
        told("mini-lora", choose_gpus("T4", None)[0], overrides=["engine.int8_compute=on"])


def test_without_a_gpu_all_that_are_known_are_planned_for(monkeypatch):
    monkeypatch.setattr(foretelling, "gpu_here", lambda: None)
    assert choose_gpus(None, None) == list(GPUS.values())
    assert choose_gpus(None, 12.0)[0].memory_gib == 12.0


def test_a_comparisons_file_is_told_from_a_recipes(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('extends = "mini-lora"\n')
    assert read_arms(str(recipe), ())[0].keys() == {"mine"}
    comparison = tmp_path / "both.toml"
    comparison.write_text('extends = "mini"\nname = "both"\nseeds = [0, 1]\nvaries = ["adapter"]\n')
    arms, seeds = read_arms(str(comparison), ())
    assert (len(arms), seeds) == (4, 2)


def test_times_are_written_as_people_write_them():
    assert [write_lap(seconds) for seconds in (None, 0.0123, 1.5)] == ["-", "12 ms", "1.50 s"]
    assert [describe_time(s) for s in (45, 600, 7200)] == ["45 s", "10 min", "2.0 h"]


@pytest.mark.parametrize("gpus", [["T4"], ["T4", "A100-80GB"]])
def test_in_80_columns_nothing_is_cut(capsys, monkeypatch, gpus):
    monkeypatch.setattr(foretelling.console, "width", 80)
    arms, seeds = read_arms("mini", SMALL)
    capsys.readouterr()
    question = Question(arms=arms, seeds=seeds, gpus=[GPUS[gpu] for gpu in gpus])
    show_plans(question, as_json=False)
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert "qlora-aggressive" in shown.partition("training,")[0]


def test_a_probe_is_not_held_against_a_plan_for_another_gpu(told, monkeypatch):
    here = replace(GPUS["T4"], name="a GPU of this test")
    probed = Probed(
        device_name=here.name,
        memory="keep-all",
        seconds_per_step=1.0,
        allocated_gib=2.0,
        reserved_gib=2.0,
    )
    monkeypatch.setattr(probing, "probe_steps", lambda _: probed)
    monkeypatch.setattr(foretelling, "gpu_here", lambda: here)
    assert "2.00 GiB allocated, " in told("mini-lora", here, probe=True)
    shown = told("mini-lora", GPUS["H200"], probe=True)
    assert "(planned for another GPU, H200: leave out --gpu to compare)" in shown
