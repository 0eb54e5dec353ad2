"""A finished run, written without training, and a hub to share it on."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import UNet2DConditionModel
from huggingface_hub import constants
from PIL import Image

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.files import save_adapter
from rasengan_xl.config.recipe import lay_over, validate_run
from rasengan_xl.generation.png import save_picture
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import (
    BestCheckpoint,
    DatasetFacts,
    HeldOutLoss,
    Machine,
    ModelFacts,
    RunSummary,
    SecondsPerStep,
    TableLosses,
)
from rasengan_xl.runs.verification import Check, Verification

from .fake_hub import TOKEN, Hub, serving

HOSTILE = 'a | pipe, `tick`, <script>alert(1)</script>, **bold**\nand "--- [x](y) $a$ | ~~no~~'


@pytest.fixture(scope="module")
def finished(tiny_model: Path, picture_folder: Path, tmp_path_factory) -> RunFolder:
    """A run on a local model and local pictures, whose adapter changes what is drawn."""
    folder = RunFolder(tmp_path_factory.mktemp("alice") / "my-style")
    settings = validate_run(
        {
            "base_model": str(tiny_model),
            "dataset": {
                "source": str(picture_folder),
                "resolution": 32,
                "shapes": "square",
                "held_out_minimum": 3,
            },
            "adapter": {"rank": 2, "alpha": 3},
            "compute": {"device": "cpu"},
        },
        "test",
    )
    folder.start(settings)
    unet = UNet2DConditionModel.from_pretrained(tiny_model, subfolder="unet")
    adapter = attach_adapter(unet, settings.adapter, seed=0)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.add_(0.05)
    save_adapter(adapter, folder.adapter_file)
    save_adapter(adapter, folder.best_adapter_file)
    folder.write_best(BestCheckpoint(step=2, loss=0.1, n=6))
    folder.write_origin(MACHINE, dataset_facts(str(picture_folder)), model_facts(str(tiny_model)))
    folder.write_table_losses(TABLE)
    folder.write_summary(SUMMARY)
    (folder.path / "checkpoints").mkdir()
    (folder.path / "checkpoints" / "step-000004.safetensors").write_bytes(b"of no use to others")
    return folder


MACHINE = Machine(
    device="cpu",
    device_name="A Processor",
    processes=1,
    device_memory_gib=None,
    cores=2,
    memory_gib=8.0,
    platform="Linux",
    python="3.12.1",
    packages={"rasengan-xl": "0.1.0", "torch": "2.13.0"},
    commit="c0ffee" * 6 + "c0ff",
)
TABLE = TableLosses(
    pictures=["private-name.png"] * 3,
    digests=["d"] * 3,
    timesteps=[100, 600],
    base=[[0.2, 0.2]] * 3,
    adapted=[[0.1, 0.1]] * 3,
)
SUMMARY = RunSummary(
    status="finished",
    steps=4,
    trainable_parameters=1234567,
    total_parameters=7654321,
    adapter_file="pytorch_lora_weights.safetensors",
    adapter_bytes=1000,
    peak_memory_gib=1.25,
    peak_memory_reserved_gib=None,
    memory_kind="process resident",
    seconds_per_step=SecondsPerStep(median=0.5, p25=0.25, p75=0.75, n=17),
    training_loss=0.125,
    training_loss_steps=2,
    skipped_steps=0,
    loader_idle_share=None,
    held_out_loss=HeldOutLoss(
        base=0.2,
        adapted=0.1,
        n=6,
        base_standard_error=0.01,
        adapted_standard_error=0.02,
        difference=-0.1,
        difference_standard_error=0.015,
    ),
    seconds=2.0,
    joules_per_step=12.5,
    trace_hash="abcdef",
    engine={"implementation": "fused", "memory": "keep-all", "cuda_graph": True},
)


def dataset_facts(source: str, revision: str | None = None) -> DatasetFacts:
    return DatasetFacts(
        source=source,
        revision=revision,
        found=13,
        train=9,
        held_out=3,
        fingerprint="f" * 64,
        skipped={"no caption": 1},
        ignored_files={},
        upscaled=0,
        captions_cut=0,
    )


def model_facts(name: str, revision: str | None = None) -> ModelFacts:
    return ModelFacts(name=name, revision=revision, parts={"unet": "e" * 64})


@pytest.fixture
def run(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the run that a test may change."""
    shutil.copytree(finished.path, tmp_path / "my-style")
    return RunFolder(tmp_path / "my-style")


@pytest.fixture
def change_settings():
    """Lay tables over a run's settings."""

    def change(run: RunFolder, **changes: object) -> None:
        tree = json.loads(run.settings_file.read_text())
        lay_over(tree, changes)
        run.keep_settings(validate_run(tree, "test"))

    return change


@pytest.fixture
def add_sample():
    """Put a pair of pictures into a run's samples, as `generate` does."""

    def add(run: RunFolder, number: int, prompt: str = "a ninja") -> None:
        for kind, colour in (("base", "grey"), ("adapted", "red")):
            told = {
                "prompt": prompt,
                "seed": number,
                "base_model": run.read_settings().base_model,
                "adapter": str(run.adapter_file),
            }
            file = run.samples_folder / f"{number:03d}-seed{number}-{kind}.png"
            save_picture(Image.new("RGB", (32, 32), colour), file, told)

    return add


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that huggingface_hub takes for the real one, and a token for it."""
    with serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere/token")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        huggingface_hub.close_session()  # or it would keep the proxy that it began with
        yield hub
        huggingface_hub.close_session()


def write_verification(folder: RunFolder, *checks: Check) -> None:
    """Write what was found of a run's adapter, as the end of a training does."""
    found = Verification(
        passed=all(check.status != "failed" for check in checks),
        adapter=str(folder.adapter_file),
        sha256="",
        form="diffusers",
        base="",
        kinds=[],
        parameters=0,
        facts={},
        notes=[],
        checks=list(checks),
        layers=[],
    )
    folder.verification_file.write_text(found.model_dump_json())
