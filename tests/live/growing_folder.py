"""A comparison's folder as it stands while arms are trained."""

import json
import math
import random
from pathlib import Path

from PIL import Image

from rasengan_xl.comparison.result import ArmResult, Comparison, RunResult
from rasengan_xl.generation.png import save_picture
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import (
    CheckpointLoss,
    HeldOutLoss,
    RunSummary,
    SecondsPerStep,
    StepRecord,
)
from rasengan_xl.whole_file import write_whole

STEPS = 40


def write_settings(folder: Path, arms=("lora", "dora"), seeds=(0, 1), steps: int = STEPS) -> None:
    settings = {
        "name": "sample",
        "varies": ["adapter"],
        "seeds": list(seeds),
        "arms": {arm: {"seed": 0, "training": {"steps": steps}} for arm in arms},
    }
    write_whole(folder / "settings.json", json.dumps(settings))


def open_run(folder: Path, arm: str = "lora", seed: int = 0) -> RunFolder:
    run = RunFolder(folder / "arms" / arm / f"seed-{seed}")
    run.path.mkdir(parents=True, exist_ok=True)
    write_whole(run.settings_file, "{}")
    return run


def build_step(step: int, loss: float | None = None, seconds: float = 0.5) -> StepRecord:
    if loss is None:
        noise = random.Random(step).gauss(0, 0.02)
        loss = 0.12 + 0.1 * math.exp(-step / 30) + noise
    return StepRecord(
        step=step,
        loss=loss,
        gradient_norm=1.0,
        learning_rate=1e-4,
        seconds=seconds,
        idle_seconds=0.0,
        peak_memory_gib=1.25,
    )


def add_steps(run: RunFolder, first: int, last: int, seconds: float = 0.5) -> None:
    lines = (build_step(step, seconds=seconds).to_json() for step in range(first, last + 1))
    with run.steps_file.open("a") as log:
        log.writelines(f"{json.dumps(line)}\n" for line in lines)


def add_checkpoint(run: RunFolder, step: int, loss: float = 0.118) -> None:
    run.append_loss(CheckpointLoss(step=step, loss=loss, standard_error=0.004, n=128))


def finish(run: RunFolder, status: str = "finished", steps: int = STEPS) -> None:
    held_out = HeldOutLoss(
        base=0.1312,
        adapted=0.1188,
        n=256,
        base_standard_error=0.0041,
        adapted_standard_error=0.0037,
        difference=-0.0124,
        difference_standard_error=0.0011,
    )
    run.write_summary(
        RunSummary(
            status=status,
            steps=steps,
            trainable_parameters=243_712,
            total_parameters=8_600_000,
            adapter_file=run.adapter_file.name,
            adapter_bytes=1_000_000,
            peak_memory_gib=1.25,
            peak_memory_reserved_gib=None,
            memory_kind="process resident",
            seconds_per_step=SecondsPerStep(median=0.5, p25=0.4, p75=0.6, n=30),
            training_loss=0.12,
            training_loss_steps=4,
            skipped_steps=0,
            loader_idle_share=None,
            held_out_loss=held_out if status == "finished" else None,
            seconds=0.5 * steps,
            joules_per_step=None,
            trace_hash="9f31c07ab52e4d18",
        )
    )


def write_result(folder: Path, runs: dict[str, list[RunResult]], status: str = "running") -> None:
    arms = [
        ArmResult(name=arm, settings={}, differs={}, runs=results) for arm, results in runs.items()
    ]
    Comparison(
        name="sample",
        status=status,
        design=None,
        varies=["adapter"],
        seeds=[0, 1],
        base_model="mini",
        command="rasengan compare sample",
        dataset=None,
        machine=None,
        jobs=1,
        picture_settings={},
        scoring_settings={},
        arms=arms,
        pictures=[],
    ).write(folder / "comparison.json")


def failed_run(arm: str, seed: int, reason: str = "out of memory at step 9") -> RunResult:
    return RunResult(seed=seed, status="failed", reason=reason, run=f"arms/{arm}/seed-{seed}")


def draw_sample(folder: Path, path: str, prompt: str = "a ninja at night", side: int = 64) -> Path:
    shade = random.Random(path).randrange(40, 220)
    picture = Image.radial_gradient("L").resize((side, side)).point(lambda v: v * shade // 255)
    arm, _, _ = path.partition("/")
    file = folder / "drawn" / Path(path).parent / "shown" / Path(path).name
    save_picture(picture.convert("RGB"), file, {"arm": arm, "prompt": prompt, "seed": 5})
    return file
