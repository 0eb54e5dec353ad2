"""What a trainer costs on this device: time, memory, kernels."""

import gc
import math
import statistics
from collections.abc import Iterator
from itertools import pairwise, takewhile
from time import perf_counter
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.training_step.agreement import compare
from benchmarks.training_step.arms import Arm
from benchmarks.training_step.inputs import DTYPES
from benchmarks.training_step.ours import build_ours
from benchmarks.training_step.rows import Milliseconds, Row
from benchmarks.training_step.script_of_diffusers import build_diffusers
from benchmarks.training_step.script_of_notebooks import build_notebooks
from benchmarks.training_step.trainer import Trainer
from rasengan_xl.runs.cost import (
    peak_memory_gib,
    peak_memory_reserved_gib,
    quantile,
    reset_peak_memory,
)
from rasengan_xl.runs.provenance import name_device
from rasengan_xl.sdxl.compute import Compute

WARMUP_STEPS = 8
"""Kernels are chosen, memory is found, graphs are recorded in them."""


def build(arm: Arm, compute: Compute) -> Trainer:
    """Build an arm's trainer."""
    match arm.trainer:
        case "ours":
            return build_ours(arm, compute)
        case "diffusers":
            return build_diffusers(arm, compute)
        case "notebooks":
            return build_notebooks(arm, compute)


def measure(arm: Arm, device: torch.device, steps: int) -> Row:
    """Take steps, and say what they cost; the first ones are not counted."""
    steps = arm.steps or steps
    trainer = build(arm, Compute(device, DTYPES[arm.precision]))
    gc.collect()
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
    reset_peak_memory(device)  # the first steps count: a recorded graph allocates in them alone
    taken = trainer.steps(WARMUP_STEPS + steps + 1)
    losses = [next(taken) for _ in range(WARMUP_STEPS)]
    times = sorted(time_steps(taken, losses, steps, device))
    peaks = (peak_memory_gib(device), peak_memory_reserved_gib(device)) if on_gpu else (None, None)
    kernels = count_launches(taken, losses) if on_gpu else None
    losses.extend(taken)
    return Row(
        arm=arm,
        basis="measured",
        device=name_device(device),
        torch_version=torch.__version__,
        milliseconds=Milliseconds(
            median=statistics.median(times),
            p25=quantile(times, 0.25),
            p75=quantile(times, 0.75),
            n=len(times),
        ),
        peak_allocated_gib=peaks[0],
        peak_reserved_gib=peaks[1],
        kernels=kernels,
        agreement=compare(arm, trainer, device) if arm.check else None,
        losses=list(takewhile(math.isfinite, losses)),
        skipped_steps=None if trainer.skipped is None else len(trainer.skipped),
        notes=list(dict.fromkeys(trainer.notes)),
        is_finite=all(math.isfinite(loss) for loss in losses),
    )


def time_steps(
    taken: Iterator[float], losses: list[float], steps: int, device: torch.device
) -> list[float]:
    """Return the milliseconds between the ends of steps, by the device's own clock."""
    if device.type != "cuda":
        marks = [perf_counter()]
        for _ in range(steps):
            losses.append(next(taken))
            marks.append(perf_counter())
        return [1000 * (end - start) for start, end in pairwise(marks)]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    events[0].record()
    for event in events[1:]:
        losses.append(next(taken))
        event.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in pairwise(events)]


def count_launches(taken: Iterator[float], losses: list[float]) -> int:
    """Count the kernels that a whole step puts on the GPU, copies and fillings left out."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        losses.append(next(taken))
        torch.cuda.synchronize()
    events: Any = profiler.profiler
    return sum(
        str(event.device_type()).endswith("CUDA")
        and not event.name().startswith(("Memcpy", "Memset"))
        for event in events.kineto_results.events()
    )
