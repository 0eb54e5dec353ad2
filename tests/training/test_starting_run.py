import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.files import save_adapter
from rasengan_xl.config.settings import AdapterSettings, LayerShape
from rasengan_xl.errors import AdapterError, OutputError
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import RunSummary, StageProgress, StepRecord, TableLosses
from rasengan_xl.training.run import run_training

from ..conftest import build_tiny_unet

BLOCK = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_"
TEXT = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj"
TWO_STEPS = {"steps": 2, "save_every": 1, "keep_checkpoints": 4}


def steps_of(records):
    return [record for record in records if isinstance(record, StepRecord)]


def notes_of(records):
    return [r.note for r in records if isinstance(r, StageProgress) and r.note]


@pytest.fixture
def lora_file(tmp_path):
    torch.manual_seed(3)
    adapter = attach_adapter(build_tiny_unet(), AdapterSettings(rank=3, alpha=5), seed=1)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.add_(0.02 * torch.randn_like(parameter))
    save_adapter(adapter, tmp_path / "lora.safetensors")
    return tmp_path / "lora.safetensors"


@pytest.fixture
def loha_file(tmp_path):
    """A LoHa on the UNet, and a LoRA on a text encoder."""
    torch.manual_seed(4)
    tensors = {}
    for layer, width in (("attn1_to_q", 64), ("attn2_to_k", 128)):
        for name, shape in (("w1_a", (64, 2)), ("w1_b", (2, width))):
            tensors[f"{BLOCK}{layer}.hada_{name}"] = 0.3 * torch.randn(shape)
            tensors[f"{BLOCK}{layer}.hada_{name.replace('1', '2')}"] = 0.3 * torch.randn(shape)
        tensors[f"{BLOCK}{layer}.alpha"] = torch.tensor(2.0)
    tensors[f"{TEXT}.lora_down.weight"] = torch.randn(2, 64)
    tensors[f"{TEXT}.lora_up.weight"] = torch.randn(64, 2)
    tensors[f"{TEXT}.alpha"] = torch.tensor(2.0)
    save_file(tensors, tmp_path / "loha.safetensors")
    return tmp_path / "loha.safetensors"


@pytest.fixture
def given(settings, loha_file):
    return settings(adapter={"start_from": str(loha_file)}, training={"steps": 0})


def test_a_run_begins_where_the_file_stands(settings, lora_file, tmp_path):
    folder = RunFolder(tmp_path / "run")
    rate = 1e-12  # nothing is learnt
    chosen = settings(
        adapter={"rank": 2, "start_from": str(lora_file)},
        training={**TWO_STEPS, "learning_rate": rate, "weight_decay": 0},
    )
    records = list(run_training(chosen, folder))
    assert any(note.startswith(f"starts from {lora_file}") for note in notes_of(records))
    theirs, ours = load_file(lora_file), load_file(folder.adapter_file)
    assert theirs.keys() == ours.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-9) for name in theirs)
    kept = folder.read_settings().adapter
    assert (kept.rank, kept.alpha) == (3, 5)
    assert len(kept.start_digest) == 64


@pytest.mark.parametrize("stabilized", [False, True])
def test_what_starts_from_layers_of_several_ranks_is_verified_and_read_again(
    settings, tmp_path, stabilized
):
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    other = LayerShape(layer=layer, rank=2, alpha=7)
    shape = AdapterSettings(rank=3, layer_shapes=(other,), rank_stabilized=stabilized)
    save_adapter(attach_adapter(build_tiny_unet(), shape, seed=1), tmp_path / "ranks.safetensors")
    start = {"start_from": str(tmp_path / "ranks.safetensors")}
    folder = RunFolder(tmp_path / "run")
    once = {"steps": 1, "warmup_steps": 0}
    list(run_training(settings(adapter=start, training=once), folder))
    assert folder.is_finished
    assert folder.read_settings().adapter.layer_shapes == (other,)
    again = {"start_from": str(folder.path)}
    list(run_training(settings(adapter=again, training=once), RunFolder(tmp_path / "again")))


def test_a_run_that_starts_from_a_file_resumes_exactly_and_only_with_that_file(
    settings, lora_file, tmp_path
):
    chosen = settings(adapter={"start_from": str(lora_file)}, training=TWO_STEPS)
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    expected = steps_of(run_training(chosen, whole))
    run = run_training(chosen, broken)
    for record in run:
        if isinstance(record, StepRecord):
            run.close()
            break
    moved = tmp_path / "moved.safetensors"
    shutil.copy(lora_file, moved)
    again = settings(adapter={"start_from": str(moved)}, training=TWO_STEPS)
    other = load_file(lora_file)
    save_file({name: 2 * t for name, t in other.items()}, lora_file)
    with pytest.raises(
        OutputError,
        match=r"the adapter to start from \(SHA-256\) was \w{12}\.\.\., is \w{12}\.\.\.; cont",
    ):
        list(run_training(chosen, broken, resume=True))
    assert [r.loss for r in steps_of(run_training(again, broken, resume=True))] == [
        expected[1].loss
    ]
    theirs, ours = load_file(whole.adapter_file), load_file(broken.adapter_file)
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_a_loha_is_trained_on_as_lora_and_the_loss_is_told(settings, loha_file, tmp_path):
    start = {"rank": 4, "start_from": str(loha_file), "start_text": "leave-out"}
    chosen = settings(adapter=start, training={"steps": 1, "warmup_steps": 0})
    notes = "\n".join(notes_of(run_training(chosen, RunFolder(tmp_path / "run"))))
    assert "2 of 2 layers are of a kind that is not trained" in notes
    assert "text encoders are left out" in notes


def test_a_given_adapter_is_measured_with_its_text_encoders_and_not_trained(
    given, loha_file, tmp_path
):
    folder = RunFolder(tmp_path / "run")
    assert not steps_of(run_training(given, folder))
    assert folder.adapter_file.read_bytes() == loha_file.read_bytes()
    summary = RunSummary.model_validate_json(folder.summary_file.read_text())
    assert (summary.status, summary.steps) == ("finished", 0)
    costs = (summary.seconds, summary.seconds_per_step, summary.peak_memory_gib)
    assert costs == (None, None, None)
    assert summary.trace_hash is None
    assert folder.is_finished
    losses = TableLosses.model_validate_json(folder.table_losses_file.read_text())
    assert losses.adapted != losses.base

    unet_alone = tmp_path / "unet.safetensors"
    tensors = load_file(loha_file)
    save_file({n: t for n, t in tensors.items() if not n.startswith("lora_te")}, unet_alone)
    start = given.adapter.model_copy(update={"start_from": str(unet_alone)})
    other = RunFolder(tmp_path / "other")
    list(run_training(given.model_copy(update={"adapter": start}), other))
    without_text = TableLosses.model_validate_json(other.table_losses_file.read_text())
    assert without_text.base == losses.base
    assert without_text.adapted != losses.adapted


def test_a_given_adapter_of_text_encoders_alone_is_measured(given, loha_file, tmp_path):
    text_alone = tmp_path / "text.safetensors"
    tensors = load_file(loha_file)
    save_file({n: t for n, t in tensors.items() if n.startswith("lora_te")}, text_alone)
    start = given.adapter.model_copy(update={"start_from": str(text_alone)})
    folder = RunFolder(tmp_path / "run")
    list(run_training(given.model_copy(update={"adapter": start}), folder))
    losses = TableLosses.model_validate_json(folder.table_losses_file.read_text())
    assert losses.adapted != losses.base


def test_a_given_lora_has_the_losses_that_its_own_run_found(settings, lora_file, tmp_path):
    trained = settings(
        adapter={"start_from": str(lora_file)}, training={"steps": 1, "warmup_steps": 0}
    )
    run, measured = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "measured")
    list(run_training(trained, run))
    given = settings(adapter={"start_from": str(run.path)}, training={"steps": 0})
    list(run_training(given, measured))
    first, second = (
        TableLosses.model_validate_json(folder.table_losses_file.read_text())
        for folder in (run, measured)
    )
    assert first.base == second.base
    torch.testing.assert_close(torch.tensor(first.adapted), torch.tensor(second.adapted))


def test_a_given_adapter_that_fits_no_layer_is_refused_before_anything_is_written(
    settings, tmp_path
):
    file = tmp_path / "bad.safetensors"
    tensors = {f"{BLOCK}attn1_to_q.lora_down.weight": torch.zeros(2, 99)}
    tensors |= {f"{BLOCK}attn1_to_q.lora_up.weight": torch.zeros(64, 2)}
    save_file(tensors, file)
    given = settings(adapter={"start_from": str(file)}, training={"steps": 0})
    with pytest.raises(AdapterError):
        list(run_training(given, RunFolder(tmp_path / "run")))
    assert not (tmp_path / "run").exists()
