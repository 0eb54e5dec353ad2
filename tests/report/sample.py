"""A sample comparison: every part that a page can show, drawn by the embedded world."""

import dataclasses
import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

from rasengan_xl.comparison.result import (
    ArmResult,
    CheckpointPoint,
    Comparison,
    EncoderFacts,
    EqualTime,
    LossAtTime,
    NearestPicture,
    PictureRow,
    Probe,
    RunResult,
    SweepTrial,
)
from rasengan_xl.evaluation.records import (
    Estimate,
    Measure,
    OnBothBases,
    QuantizationEffect,
    StratumLoss,
    Verdict,
)
from rasengan_xl.mini.world.captions import write_caption
from rasengan_xl.mini.world.portraits import draw_portrait
from rasengan_xl.mini.world.scenes import draw_scene
from rasengan_xl.runs.records import (
    DatasetFacts,
    IdleShare,
    Machine,
    PeakMemory,
    RunSummary,
    SecondsPerStep,
)

ARMS = ("lora", "qlora-normal", "qlora-aggressive", "dora")
SEEDS = (0, 1, 2)
STEPS = 120
PICTURES = 64
_LOSS = {"lora": 0.1182, "qlora-normal": 0.1204, "qlora-aggressive": 0.1190, "dora": 0.1181}
_STYLE = {"lora": 0.142, "qlora-normal": 0.161, "qlora-aggressive": 0.139, "dora": 0.137}
_FIDELITY = {"lora": 0.871, "qlora-normal": 0.880, "qlora-aggressive": 0.842, "dora": 0.869}
_SECONDS = {"lora": 0.138, "qlora-normal": 0.171, "qlora-aggressive": 0.214, "dora": 0.251}
_MEMORY = {"lora": 10.31, "qlora-normal": 6.12, "qlora-aggressive": 7.48, "dora": 11.84}
_PARAMETERS = {
    "lora": 23_224_320,
    "qlora-normal": 23_224_320,
    "qlora-aggressive": 83_722_240,
    "dora": 23_889_920,
}


def estimate(value: float, reach: float | None = 0.002, **counts: int) -> Estimate:
    low, high = (None, None) if reach is None else (value - reach, value + reach)
    counts = {"pictures": PICTURES, "seeds": len(SEEDS)} | counts
    return Estimate(value=value, low=low, high=high, **counts)


def build_summary(arm: str, seed: int, **changes: Any) -> RunSummary:
    seconds = _SECONDS.get(arm, 0.15) * (1 + 0.01 * seed)
    known: dict[str, Any] = {
        "status": "finished",
        "steps": STEPS,
        "trainable_parameters": _PARAMETERS.get(arm, 1000),
        "total_parameters": 2_567_463_684 + _PARAMETERS.get(arm, 1000),
        "adapter_file": "pytorch_lora_weights.safetensors",
        "adapter_bytes": 92_937_493,
        "peak_memory_gib": _MEMORY.get(arm, 9.0) + 0.01 * seed,
        "peak_memory_reserved_gib": None,
        "memory_kind": "cuda allocated",
        "seconds_per_step": SecondsPerStep(
            median=seconds, p25=seconds * 0.97, p75=seconds * 1.05, n=STEPS - 10
        ),
        "training_loss": _LOSS.get(arm, 0.12) - 0.004,
        "training_loss_steps": 12,
        "skipped_steps": 0,
        "loader_idle_share": IdleShare(mean=0.0012, largest=0.031, n=STEPS - 10),
        "held_out_loss": None,
        "seconds": seconds * STEPS,
        "joules_per_step": 61.5,
        "trace_hash": f"{(seed + 1) * 0x1F31C07AB52E4D18:016x}",
    }
    return RunSummary(**(known | changes))


def build_run(arm: str = "lora", seed: int = 0, **changes: Any) -> RunResult:
    known: dict[str, Any] = {
        "seed": seed,
        "status": "finished",
        "run": f"arms/{arm}/seed-{seed}",
        "summary": build_summary(arm, seed),
        "checkpoints": [
            CheckpointPoint(
                step=step,
                seconds=step * 0.2,
                loss=_pass(arm, seed, step),
                standard_error=0.002,
                n=128,
            )
            for step in (30, 60, 90, 120)
        ],
        "seconds": _SECONDS.get(arm, 0.15) * STEPS * (1 + 0.01 * seed),
        "joules_per_step": 21.4,
    }
    return RunResult(**(known | changes))


def _pass(arm: str, seed: int, step: int) -> float:
    """Return a held-out loss on the way to the arm's last one."""
    last = _LOSS.get(arm, 0.12) + 0.0004 * (seed - 1)
    return last + (0.1312 - last) * (1 - step / STEPS) ** 2


def build_failed_run(
    arm: str = "dora", seed: int = 2, reason: str | None = "out of memory at step 9"
) -> RunResult:
    return build_run(
        arm, seed, status="failed", reason=reason, summary=None, checkpoints=[], seconds=None
    )


def build_arm(name: str = "lora", runs: list[RunResult] | None = None, **changes: Any) -> ArmResult:
    nf4, dora = name.startswith("qlora"), name == "dora"
    differs = {
        "adapter.decompose": dora,
        "adapter.rank": 32 if name == "qlora-aggressive" else 16,
        "base_precision": "nf4" if nf4 else "compute",
    }
    adapter = {key.partition(".")[2]: differs[key] for key in differs if "." in key}
    known: dict[str, Any] = {
        "name": name,
        "settings": {
            "steps": STEPS,
            "base_precision": differs["base_precision"],
            "adapter": adapter | {"targets": ["to_q", "to_k", "to_v", "to_out.0"]},
            "training": {"batch_size": 4, "learning_rate": 1e-4, "schedule": "cosine"},
        },
        "differs": differs,
        "trainable_parameters": _PARAMETERS.get(name, 1000),
        "total_parameters": 2_567_463_684 + _PARAMETERS.get(name, 1000),
        "adapter_bytes": 92_937_493,
        "flops_per_step": 2.1e13,
        "runs": runs if runs is not None else [build_run(name, seed) for seed in SEEDS],
    }
    return ArmResult(**(known | changes))


def build_verdict(first: str, second: str, difference: float, **changes: Any) -> Verdict:
    """Judge a difference of losses by an interval of 0.0010 each way."""
    judged = abs(difference) > 0.0010
    outcome = "no detectable difference"
    if judged:
        outcome = "better" if difference < 0 else "worse"
    known: dict[str, Any] = {
        "measure": "held_out_loss",
        "first": first,
        "second": second,
        "difference": difference,
        "low": difference - 0.0010,
        "high": difference + 0.0010,
        "p_value": 0.004 if judged else 0.61,
        "corrected_p_value": 0.018 if judged else 1.0,
        "outcome": outcome,
        "pictures": PICTURES,
        "seeds": len(SEEDS),
    }
    return Verdict(**(known | changes))


def build_measures(arms: tuple[str, ...] = ARMS) -> list[Measure]:
    def measure(key: str, values: dict[str, float], reach: float, **rest: Any) -> Measure:
        base = rest.pop("base", None)
        counts = rest.pop("counts", {})
        return Measure(
            key=key,
            base=None if base is None else estimate(base, reach, **{"seeds": 1} | counts),
            arms={arm: estimate(values.get(arm, 0.12), reach, **counts) for arm in arms},
            **{"unit": "", "direction": "lower"} | rest,
        )

    cost: dict[str, Any] = {"group": "cost", "counts": {"pictures": 0}}
    return [
        measure(
            "held_out_loss",
            _LOSS,
            0.0021,
            base=0.1312,
            label="Held-out loss",
            note="Mean squared error of the predicted noise on pictures never trained on.",
            group="loss",
        ),
        measure(
            "style_distance",
            _STYLE,
            0.011,
            base=0.41,
            label="Distance to the style",
            note="Squared maximum mean discrepancy of CLIP features to held-out pictures.",
            group="pictures",
        ),
        measure(
            "caption_fidelity",
            _FIDELITY,
            0.014,
            base=0.913,
            label="Attributes drawn as asked",
            note="Share of the named attributes that the reader finds in the picture.",
            group="captions",
            direction="higher",
        ),
        measure(
            "peak_memory_gib",
            _MEMORY,
            0.02,
            label="Peak memory",
            note="Most memory allocated while training.",
            unit="GiB",
            **cost,
        ),
        measure(
            "training_seconds",
            {arm: seconds * STEPS for arm, seconds in _SECONDS.items()},
            0.6,
            label="Training time",
            note="All steps of a run, nothing else.",
            unit="s",
            **cost,
        ),
    ]


def build_verdicts(arms: tuple[str, ...] = ARMS) -> list[Verdict]:
    def judge(measure: str, values: dict[str, float], reach: float, sign: int) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for first, second in itertools.combinations(arms, 2):
            difference = values.get(first, 0.12) - values.get(second, 0.12)
            clear = abs(difference) > reach
            better = difference * sign < 0
            outcome = ("better" if better else "worse") if clear else "no detectable difference"
            changes = {
                "measure": measure,
                "low": difference - reach,
                "high": difference + reach,
                "outcome": outcome,
                "p_value": 0.003 if clear else 0.58,
                "corrected_p_value": 0.012 if clear else 1.0,
            }
            verdicts.append(build_verdict(first, second, difference, **changes))
        return verdicts

    return [
        *judge("held_out_loss", _LOSS, 0.0007, 1),
        *judge("style_distance", _STYLE, 0.012, 1),
        *judge("caption_fidelity", _FIDELITY, 0.012, -1),
        *judge("peak_memory_gib", _MEMORY, 0.03, 1),
    ]


def build_strata(arms: tuple[str, ...] = ARMS) -> list[StratumLoss]:
    rows: list[StratumLoss] = []
    for timestep in (50, 250, 450, 650, 850):
        base = 0.9 * math.exp(-timestep / 260) + 0.012
        gains = {
            arm: base * 0.09 * (1 + 0.2 * number) * math.exp(-timestep / 800)
            for number, arm in enumerate(arms)
        }
        rows.append(
            StratumLoss(
                timestep=timestep,
                base=estimate(base, base * 0.05, seeds=1),
                arms={arm: estimate(base - gain, base * 0.05) for arm, gain in gains.items()},
                differences={arm: estimate(-gain, gain * 0.25) for arm, gain in gains.items()},
            )
        )
    return rows


def build_quantization(arms: tuple[str, ...] = ARMS) -> QuantizationEffect:
    return QuantizationEffect(
        bases=[
            OnBothBases(
                base_precision="nf4",
                on_quantized=estimate(0.1331, seeds=1),
                on_full=estimate(0.1312, seeds=1),
                difference=estimate(-0.0019, 0.0006, seeds=1),
            )
        ],
        arms={
            arm: OnBothBases(
                base_precision="nf4",
                on_quantized=estimate(_LOSS[arm]),
                on_full=estimate(_LOSS[arm] + 0.0011),
                difference=estimate(0.0011, 0.0004),
            )
            for arm in arms
            if arm.startswith("qlora")
        },
    )


def build_comparison(
    *arms: ArmResult, prompt: str = "a ninja at night", **changes: Any
) -> Comparison:
    """Return a comparison of a few finished arms, small enough to read."""
    finished = [arm for arm in arms if arm.finished]
    names = tuple(arm.name for arm in finished)
    row = PictureRow(
        prompt=prompt,
        seed=100,
        base="pictures/base.png",
        arms={
            arm.name: {str(run.seed): f"pictures/{arm.name}-{run.seed}.png" for run in arm.finished}
            for arm in finished
        },
    )
    known: dict[str, Any] = {
        "name": "sample",
        "status": "finished",
        "design": None,
        "varies": ["adapter.decompose", "adapter.rank", "base_precision"],
        "seeds": sorted({run.seed for arm in arms for run in arm.runs}),
        "base_model": "mini",
        "command": "rasengan compare sample --out sample",
        "dataset": build_dataset(),
        "machine": build_machine(),
        "jobs": 1,
        "picture_settings": {"sampler_steps": 30, "guidance": 5.0, "prompts": [prompt]},
        "scoring_settings": {"held_out_timesteps": [50, 250, 450, 650, 850]},
        "arms": list(arms),
        "pictures": [row],
        "primary": "held_out_loss" if names else None,
        "measures": build_measures(names) if names else [],
        "verdicts": build_verdicts(names),
    }
    return Comparison(**(known | changes))


def build_dataset() -> DatasetFacts:
    return DatasetFacts(
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
    )


def build_machine() -> Machine:
    return Machine(
        device="cuda",
        device_name="Tesla T4",
        processes=1,
        device_memory_gib=14.6,
        cores=2,
        memory_gib=12.7,
        platform="Linux",
        python="3.12.3",
        packages={"torch": "2.13.0", "diffusers": "0.38.0", "peft": "0.19.0"},
        commit=None,
    )


def build_rich_comparison(prompts: int = 6) -> Comparison:
    """Return four arms of three seeds with every part of the schema, one run failed."""
    arms = [build_arm(name) for name in ARMS[:3]]
    arms.append(build_arm("dora", [build_run("dora", 0), build_run("dora", 1), build_failed_run()]))
    rows = [
        PictureRow(
            prompt=write_caption(draw_scene(number), "plain"),
            seed=100 + number,
            base=f"pictures/{number}/base.png",
            arms={
                arm.name: {
                    str(run.seed): f"pictures/{number}/{arm.name}-{run.seed}.png"
                    for run in arm.finished
                }
                for arm in arms
            },
        )
        for number in range(prompts)
    ]
    comparison = build_comparison(*arms)
    return comparison.model_copy(
        update={
            "name": "four methods, three seeds",
            "design": "one-factor",
            "pictures": rows,
            "strata": build_strata(),
            "quantization": build_quantization(),
            "equal_time": EqualTime(
                seconds=16.6,
                arms={
                    arm: LossAtTime(
                        steps=STEPS * _SECONDS["lora"] / _SECONDS[arm],
                        loss=_LOSS[arm] + 0.002 * (_SECONDS[arm] / 0.138 - 1),
                        low=_LOSS[arm] - 0.001,
                        high=_LOSS[arm] + 0.004,
                        seeds=3,
                        n=128,
                    )
                    for arm in ARMS
                },
            ),
            "sweep": {
                arm: [
                    SweepTrial(
                        learning_rate=rate,
                        status="finished",
                        tuning_loss=loss,
                        standard_error=0.002,
                        n=96,
                        chosen=rate == 1e-4,
                    )
                    for rate, loss in ((3e-5, 0.124), (1e-4, 0.1185))
                ]
                + [SweepTrial(learning_rate=3e-3, status="failed", reason="the loss diverged")]
                for arm in ("lora", "dora")
            },
            "nearest": [
                NearestPicture(
                    arm=arm,
                    seed=0,
                    prompt=rows[number].prompt,
                    drawn=rows[number].arms[arm]["0"],
                    training=f"training/{number}.png",
                    training_name=f"shinobi {200 + number}",
                    similarity=0.94 - 0.02 * number,
                )
                for number, arm in enumerate(ARMS)
            ],
            "encoders": [
                EncoderFacts(
                    key="clip", name="openai/clip-vit-large-patch14-336", identity="c1" * 32
                ),
                EncoderFacts(
                    key="dino",
                    name="facebook/dinov2-base",
                    identity=None,
                    absent="facebook/dinov2-base is not on this machine and could not be fetched",
                ),
            ],
            "probe": Probe(teraflops_per_second=41.2, precision="float16", seconds=3.0, side=4096),
            "memory": [
                PeakMemory(
                    phase="encode", allocated_gib=3.21, reserved_gib=3.9, kind="cuda allocated"
                )
            ],
            "notes": ["energy was not measured: NVML does not tell it for this GPU"],
        }
    )


def write_folder(folder: Path, comparison: Comparison, size: int = 64) -> Path:
    """Write a comparison with its pictures and steps; no picture equals another."""
    for number, row in enumerate(comparison.pictures):
        scene = draw_scene(number)
        _save(folder / row.base, draw_portrait(scene, "plain", size), 0)
        paths = [path for seeds in row.arms.values() for path in seeds.values()]
        for place, path in enumerate(paths, start=1):
            turned = dataclasses.replace(scene, tilt_degrees=(place % 7 - 3) * 2.0)
            _save(folder / path, draw_portrait(turned, "shinobi", size), place)
    for number, near in enumerate(comparison.nearest):
        _save(folder / near.training, draw_portrait(draw_scene(200 + number), "shinobi"), 0)
    for arm in comparison.arms:
        for run in arm.runs:
            if run.status != "missing":
                last = STEPS if run.status == "finished" else 8
                write_steps(folder / run.run, draw_losses(arm.name, run.seed, last))
    folder.mkdir(parents=True, exist_ok=True)
    comparison.write(folder / "comparison.json")
    return folder


def _save(file: Path, picture: Any, mark: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.putpixel((0, 0), (mark * 5 % 256, mark * 11 % 256, mark))
    picture.save(file)


def draw_losses(arm: str, seed: int, last: int) -> dict[int, float]:
    source, own = random.Random(f"{seed}"), random.Random(f"{arm} {seed}")
    offset = _LOSS.get(arm, 0.12)
    return {
        step: offset + 0.06 / math.sqrt(step) + source.gauss(0, 0.012) + own.gauss(0, 0.0016)
        for step in range(1, last + 1)
    }


def write_steps(run: Path, losses: dict[int, float]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"step": step, "loss": loss, "seconds": 0.1}) for step, loss in losses.items()
    ]
    (run / "steps.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
