import json
import shutil
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch
from safetensors.torch import load_file

from rasengan_xl.adapters.files import begins_from_pure_noise
from rasengan_xl.dataset.encoded import EncodedPictures
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.errors import DivergedError, OutputError, RecipeError, UnwritableError
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import RunSummary, StepRecord
from rasengan_xl.training.run import run_training

from ..conftest import METHODS


def steps_of(run):
    return [record for record in run if isinstance(record, StepRecord)]


def adapter_of(folder):
    return load_file(folder.adapter_file)


def test_a_run_leaves_its_whole_story_in_the_folder(settings, tmp_path):
    folder = RunFolder(tmp_path / "run")
    chosen = settings()
    records = steps_of(run_training(chosen, folder))
    assert folder.records() == records
    assert folder.read_settings() == chosen
    summary = RunSummary.model_validate_json(folder.summary_file.read_text())
    assert summary.status == "finished"
    assert summary.steps == 4
    assert summary.adapter_bytes == folder.adapter_file.stat().st_size
    assert summary.trainable_parameters == sum(t.numel() for t in adapter_of(folder).values())
    assert summary.held_out_loss.n == 4
    assert summary.engine == EngineOptions().facts()
    machine = json.loads(folder.machine_file.read_text())
    assert machine["packages"]["torch"] == version("torch")
    dataset = json.loads(folder.dataset_file.read_text())
    assert dataset["train"] + dataset["held_out"] == 12
    assert len(dataset["fingerprint"]) == 64


WAYS_OF_LEARNING = {
    "adamw": {"optimizer": "adamw"},
    "adamw8bit": {"optimizer": "adamw8bit"},
    "prodigy": {"optimizer": "prodigy", "learning_rate": 1.0},
    "schedule_free_adamw": {"optimizer": "schedule_free_adamw", "schedule": "constant"},
    "average": {"ema_decay": 0.9},
    "lora_plus": {"lora_plus_ratio": 4.0},
}
"""Whatever remembers something from step to step."""
PAIRS = [(method, "adamw") for method in ("qlora", "dora")]
PAIRS += [(method, way) for method in ("lora", "qdora") for way in WAYS_OF_LEARNING]
"""An optimizer knows nothing of methods: each meets the plainest and the richest."""


@pytest.mark.parametrize(("method", "learning"), PAIRS)
def test_two_steps_and_two_resumed_equal_four(settings, tmp_path, method, learning):
    chosen = settings(
        adapter={**METHODS[method], "dropout": 0.1, "rank": 64},
        training=WAYS_OF_LEARNING[learning],
    )
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    expected = steps_of(run_training(chosen, whole))

    run = run_training(chosen, broken)
    for record in run:
        if isinstance(record, StepRecord) and record.step == 2:
            run.close()
            break
    assert json.loads(broken.summary_file.read_text())["status"] == "interrupted"
    assert broken.adapter_file.exists()
    resumed = steps_of(run_training(chosen, broken, resume=True))

    assert [r.step for r in resumed] == [3, 4]
    assert [r.loss for r in broken.records()] == [r.loss for r in expected]
    for name, tensor in adapter_of(whole).items():
        assert torch.equal(adapter_of(broken)[name], tensor), name
    traces = {json.loads(f.summary_file.read_text())["trace_hash"] for f in (whole, broken)}
    assert len(traces) == 1


def test_a_way_to_compute_that_cannot_be_had_is_refused_before_pictures_are_encoded(
    settings, tmp_path
):
    told = []
    with pytest.raises(RecipeError, match="engine.int8_compute = 'on'"):
        told.extend(
            run_training(settings(engine={"int8_compute": "on"}), RunFolder(tmp_path / "run"))
        )
    assert told == []


def test_a_folder_that_holds_a_run_is_refused(settings, tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "something").write_text("mine")
    with pytest.raises(OutputError, match="already holds something"):
        list(run_training(settings(), folder))
    assert [file.name for file in tmp_path.iterdir()] == ["something"]


def test_resuming_with_other_settings_is_refused(settings, tmp_path):
    folder = RunFolder(tmp_path / "run")
    list(run_training(settings(), folder))
    with pytest.raises(OutputError, match="begun with other settings: seed was 7, is 8;"):
        list(run_training(settings(seed=8), folder, resume=True))


def test_resuming_on_other_pictures_is_refused(settings, tmp_path, picture_folder):
    pictures = shutil.copytree(picture_folder, tmp_path / "pictures")
    chosen = settings(dataset={"source": str(pictures)})
    folder = RunFolder(tmp_path / "run")
    run = run_training(chosen, folder)
    next(record for record in run if isinstance(record, StepRecord))
    run.close()
    (pictures / "00.txt").write_text("somebody else")
    with pytest.raises(OutputError, match="has changed since this run was begun"):
        list(run_training(chosen, folder, resume=True))


def test_resuming_on_another_base_of_the_same_name_is_refused(settings, tmp_path, tiny_model):
    base = shutil.copytree(tiny_model, tmp_path / "base")
    chosen = settings(base_model=str(base))
    folder = RunFolder(tmp_path / "run")
    run = run_training(chosen, folder)
    next(record for record in run if isinstance(record, StepRecord))
    run.close()
    scheduler = base / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("0.012", "0.013"))
    with pytest.raises(OutputError, match="scheduler of .* has changed since this run was begun"):
        list(run_training(chosen, folder, resume=True))


def test_an_adapter_says_that_it_was_trained_with_zero_terminal_snr(settings, tmp_path, tiny_model):
    base = shutil.copytree(tiny_model, tmp_path / "base")
    scheduler = base / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace('"epsilon"', '"v_prediction"'))
    for name, asked in (("plain", None), ("zero", True)):
        folder = RunFolder(tmp_path / name)
        chosen = settings(base_model=str(base), objective={"zero_terminal_snr": asked})
        list(run_training(chosen, folder))
        for file in (folder.adapter_file, folder.best_adapter_file):
            assert begins_from_pure_noise(file) is (asked is True)


def test_resuming_where_there_is_no_run_is_refused(settings, tmp_path):
    with pytest.raises(OutputError, match="holds no run"):
        list(run_training(settings(), RunFolder(tmp_path / "nowhere"), resume=True))


@pytest.fixture
def spoilt(monkeypatch):
    """Let every latent be something other than numbers."""
    read = EncodedPictures.posterior

    def posterior(pictures, crop):
        found = read(pictures, crop)
        return replace(found, mean=found.mean * float("nan"))

    monkeypatch.setattr(EncodedPictures, "posterior", posterior)


def test_a_run_that_diverges_keeps_the_evidence(settings, tmp_path, spoilt):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(DivergedError, match="step 1: the loss is nan.*is kept in .*diverged.json"):
        list(run_training(settings(), folder))
    facts = json.loads(folder.diverged_file.read_text())
    assert facts["step"] == 1
    assert len(facts["pictures"]) == 2
    tensors = load_file(folder.diverged_file.with_suffix(".safetensors"))
    for picture in facts["pictures"]:
        assert picture["name"].endswith(".png")
        assert tensors[f"{picture['slot']}/latents"].isnan().all()
        assert tensors[f"{picture['slot']}/timesteps"].item() == picture["timestep"]


def test_evidence_that_cannot_be_kept_does_not_hide_the_divergence(
    settings, tmp_path, spoilt, monkeypatch
):
    folder = RunFolder(tmp_path / "run")

    def refuse(*_):
        raise UnwritableError("the disk is full")

    monkeypatch.setattr(folder, "write_evidence", refuse)
    with pytest.raises(DivergedError, match="the loss is nan.*could not be kept .the disk is full"):
        list(run_training(settings(), folder))
