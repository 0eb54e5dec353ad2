"""A sample comparison, small enough to read, with every part that a page shows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rasengan_xl.comparison.result import ArmResult, Comparison, PictureRow
from rasengan_xl.runs.records import (
    BestCheckpoint,
    DatasetFacts,
    HeldOutLoss,
    IdleShare,
    Machine,
    SecondsPerStep,
)

STEPS = 40


def build_arm(name: str = "lora", /, **changes: Any) -> ArmResult:
    measured: dict[str, Any] = {
        "name": name,
        "status": "finished",
        "seed": 7,
        "settings": {"seed": 7, "adapter": {"rank": 16, "decompose": name == "dora"}},
        "differs": {"adapter.decompose": name == "dora"},
        "run": f"arms/{name}",
        "trainable_parameters": 23_224_320,
        "total_parameters": 2_590_688_004,
        "adapter_file": "pytorch_lora_weights.safetensors",
        "adapter_bytes": 92_937_493,
        "peak_memory_gib": 10.314,
        "peak_memory_reserved_gib": 11.03,
        "memory_kind": "cuda allocated",
        "seconds_per_step": SecondsPerStep(median=0.1384, p25=0.134, p75=0.1467, n=290),
        "loader_idle_share": IdleShare(mean=0.00123, largest=0.0312, n=290),
        "training_loss": 0.11183,
        "training_loss_steps": 31,
        "skipped_steps": 0,
        "held_out_loss": build_held_out_loss(),
        "best": BestCheckpoint(step=1200, loss=0.1184, n=128),
        "trace_hash": "9f31c07ab52e4d18",
    }
    return ArmResult(**(measured | changes))


def build_failed_arm(
    name: str = "dora", reason: str | None = "out of memory at step 9"
) -> ArmResult:
    settings = {"seed": 7, "adapter": {"rank": 16, "decompose": True}}
    return ArmResult(
        name=name,
        status="failed",
        reason=reason,
        seed=7,
        settings=settings,
        differs={"adapter.decompose": True},
        run=f"arms/{name}",
    )


def build_held_out_loss(difference: float = -0.0124, standard_error: float = 0.0011) -> HeldOutLoss:
    return HeldOutLoss(
        base=0.1312,
        adapted=0.1312 + difference,
        n=256,
        base_standard_error=0.0041,
        adapted_standard_error=0.0037,
        difference=difference,
        difference_standard_error=standard_error,
    )


def build_comparison(*arms: ArmResult, prompt: str = "a ninja at night") -> Comparison:
    finished = [arm.name for arm in arms if arm.status == "finished"]
    row = PictureRow(
        prompt=prompt,
        seed=100,
        base="pictures/base.png",
        arms={name: f"pictures/{name}.png" for name in finished},
    )
    return Comparison(
        name="sample",
        base_model="mini",
        dataset=DatasetFacts(
            source="mini",
            revision=None,
            found=1223,
            train=1157,
            held_out=64,
            fingerprint="ab12" * 16,
            skipped={"unreadable": 2},
            ignored_files={},
            upscaled=0,
            captions_cut=0,
        ),
        machine=Machine(
            device="cuda",
            device_name="Tesla T4",
            processes=1,
            device_memory_gib=14.6,
            cores=2,
            memory_gib=12.7,
            platform="Linux",
            python="3.12.3",
            packages={"torch": "2.13.0"},
            commit=None,
        ),
        picture_settings={"sampler_steps": 30, "guidance": 5.0, "prompts": [prompt]},
        arms=list(arms),
        pictures=[row],
    )


def write_folder(folder: Path, comparison: Comparison, side: int = 8) -> Path:
    """Write a comparison with its pictures and steps; no picture equals another."""
    (folder / "pictures").mkdir(parents=True)
    paths = [path for row in comparison.pictures for path in (row.base, *row.arms.values())]
    for number, path in enumerate(paths):
        colour = (40 * number % 256, 90, 200)
        Image.new("RGB", (side, side), colour).save(folder / path)
    for arm in comparison.arms:
        write_steps(folder / arm.run, {step: 0.1 + 0.5 / step for step in range(1, STEPS + 1)})
    comparison.write(folder / "comparison.json")
    return folder


def write_steps(run: Path, losses: dict[int, float]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"step": step, "loss": loss, "seconds": 0.1}) for step, loss in losses.items()
    ]
    (run / "steps.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def make_arm() -> Callable[..., ArmResult]:
    return build_arm


@pytest.fixture
def make_failed_arm() -> Callable[..., ArmResult]:
    return build_failed_arm


@pytest.fixture
def make_held_out_loss() -> Callable[..., HeldOutLoss]:
    return build_held_out_loss


@pytest.fixture
def make_comparison() -> Callable[..., Comparison]:
    return build_comparison


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a comparison of the given arms into a folder."""

    def make(*arms: ArmResult, prompt: str = "a ninja at night", side: int = 8) -> Path:
        return write_folder(tmp_path / "sample", build_comparison(*arms, prompt=prompt), side)

    return make


@pytest.fixture
def folder(make_folder: Callable[..., Path]) -> Path:
    """Two finished arms."""
    return make_folder(build_arm("lora"), build_arm("dora", peak_memory_gib=11.84))
