"""A run that has its captions' keys and values from the disk learns what any other does."""

import json

import pytest
import torch
from safetensors.torch import load_file

from rasengan_xl.errors import RecipeError
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import StepRecord
from rasengan_xl.training.run import run_training

from ..conftest import METHODS

KEPT = {"cache_text_kv": True}
DROPPED = {"dropout": 0.5}


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_two_steps_and_two_resumed_equal_four_that_have_the_weights(settings, tmp_path, method):
    shape = {"adapter": METHODS[method], "caption": DROPPED}
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    list(run_training(settings(**shape), whole))
    chosen = settings(**shape, engine=KEPT)
    run = run_training(chosen, broken)
    next(record for record in run if isinstance(record, StepRecord) and record.step == 2)
    run.close()
    list(run_training(chosen, broken, resume=True))

    losses = [[r.loss for r in folder.records()] for folder in (whole, broken)]
    assert len(losses[0]) == 4
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    adapters = [load_file(folder.adapter_file) for folder in (whole, broken)]
    for name, weights in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], weights, rtol=1e-4, atol=1e-5)
    summaries = [json.loads(folder.summary_file.read_text()) for folder in (whole, broken)]
    assert summaries[0]["trace_hash"] == summaries[1]["trace_hash"]
    held_out = [summary["held_out_loss"] for summary in summaries]
    assert held_out[0] == pytest.approx(held_out[1], rel=1e-5)
    assert summaries[1]["engine"]["cache_text_kv"] is True
    assert json.loads(broken.verification_file.read_text())["passed"]


REFUSED = {
    r"DoRA \(adapter.decompose = true\) takes the norm": {"adapter": {"decompose": True}},
    "needs engine.batch_text_projections = true": {"engine": {"batch_text_projections": False}},
    "is of our own layers, and this run uses PEFT's": {"engine": {"implementation": "peft"}},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_where_the_weights_are_needed_it_is_refused_before_anything_is_done(
    settings, tmp_path, monkeypatch, reason
):
    monkeypatch.setenv("RASENGAN_CACHE", str(tmp_path / "cache"))
    changes = REFUSED[reason]
    chosen = settings(**{**changes, "engine": {**KEPT, **changes.get("engine", {})}})
    with pytest.raises(RecipeError, match=reason):
        list(run_training(chosen, RunFolder(tmp_path / "run")))
    assert not (tmp_path / "cache").exists()
