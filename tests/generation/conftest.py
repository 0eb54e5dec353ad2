"""A tiny model to draw with, and runs whose adapters are random weights."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.files import save_adapter
from rasengan_xl.config.recipe import validate_run
from rasengan_xl.config.settings import AdapterSettings, ComputeSettings
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.generation.memory import MemorySavings
from rasengan_xl.generation.pipeline import load_pipeline
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import BestCheckpoint
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.training.given_weights import GivenWeights
from rasengan_xl.training.state import TrainingState


@pytest.fixture(scope="package")
def pipeline(tiny_model):
    """The tiny model, loaded; whoever changes it puts it back."""
    compute = choose_compute(ComputeSettings(device="cpu"))
    return load_pipeline(find_model(str(tiny_model)), compute, MemorySavings())


def random_adapter(tiny_model: Path, *, seed: int, **shape: object):
    """An adapter that changes pictures, at an alpha that is not its rank."""
    unet = UNet2DConditionModel.from_pretrained(tiny_model, subfolder="unet")
    adapter = attach_adapter(unet, AdapterSettings(rank=2, alpha=4, **shape), seed=seed)
    move(adapter, seed)
    return adapter


@torch.no_grad()
def move(adapter, seed: int):
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters.values():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def make_run(folder: RunFolder, tiny_model: Path, picture_folder: Path, *, decompose: bool, seed=1):
    """Write what a run of two checkpoints leaves, without training."""
    table = {"source": str(picture_folder), "resolution": 32, "held_out_minimum": 3}
    settings = validate_run(
        {
            "base_model": str(tiny_model),
            "dataset": {**table, "bucket_multiple": 8},
            "adapter": {"rank": 2, "alpha": 4, "decompose": decompose},
        },
        "test",
    )
    folder.start(settings)
    adapter = random_adapter(tiny_model, decompose=decompose, seed=seed)
    state = training_state(adapter)
    for step in (1, 2):
        move(adapter, seed + step)
        state.steps_done = step
        state.save(folder.checkpoint_file(step))
        if step == 1:
            save_adapter(adapter, folder.best_adapter_file)
            folder.write_best(BestCheckpoint(step=1, loss=0.5, n=2))
    save_adapter(adapter, folder.adapter_file)
    return folder


def training_state(adapter, ema_decay: float | None = None) -> TrainingState:
    optimizer = torch.optim.AdamW(adapter.parameters.values())
    return TrainingState(
        adapter=adapter,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(enabled=False),
        trace=TraceHash(),
        given=GivenWeights(adapter.trained, optimizer, ema_decay, adapter.settle),
    )


@pytest.fixture(scope="package")
def lora_run(tiny_model, picture_folder, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "my-lora")
    return make_run(folder, tiny_model, picture_folder, decompose=False)


@pytest.fixture(scope="package")
def dora_run(tiny_model, picture_folder, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "my-dora")
    return make_run(folder, tiny_model, picture_folder, decompose=True, seed=5)
