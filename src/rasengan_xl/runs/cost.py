"""What work costs: time and memory."""

import resource
import sys
import time
from typing import Literal

import torch
from torch import device as Device  # noqa: N812

from rasengan_xl.runs.records import IdleShare, PeakMemory, SecondsPerStep, StepRecord

WARMUP_STEPS = 5
"""Steps left out of timing: allocators, kernels and caches settle in them."""
_BYTES_PER_GIB = 2**30


class Stopwatch:
    """Measures laps; what the caller does between two laps is not counted."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._started = time.perf_counter()

    def start(self) -> None:
        """Begin a lap."""
        self._started = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the lap began, all work on the device done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - self._started


def mean_joules(records: list[StepRecord]) -> float | None:
    """Return the mean energy of the steps after the warm-up, in joules."""
    told = [record.joules for record in records[WARMUP_STEPS:] if record.joules is not None]
    return sum(told) / len(told) if told else None


def memory_kind(device: Device) -> Literal["cuda allocated", "process resident"]:
    """Name what `peak_memory_gib` counts on a device."""
    return "cuda allocated" if device.type == "cuda" else "process resident"


def reset_peak_memory(device: Device) -> None:
    """Begin to count a GPU's peak memory anew; a process's cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gib(device: Device) -> float:
    """Return the most memory used: CUDA since the last reset, CPU since the process began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _BYTES_PER_GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _BYTES_PER_GIB


def peak_memory_reserved_gib(device: Device) -> float | None:
    """Return the most memory that PyTorch's allocator held; None on a CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_reserved(device) / _BYTES_PER_GIB


def peak_memory(phase: Literal["encode", "train", "draw"], device: Device) -> PeakMemory:
    """Describe the most memory that a phase took, as the three functions above count it."""
    return PeakMemory(
        phase=phase,
        allocated_gib=peak_memory_gib(device),
        reserved_gib=peak_memory_reserved_gib(device),
        kind=memory_kind(device),
    )


def summarise_seconds(records: list[StepRecord]) -> SecondsPerStep | None:
    """Return median and quartiles of the steps after the warm-up."""
    seconds = sorted(record.seconds for record in records[WARMUP_STEPS:])
    if not seconds:
        return None
    return SecondsPerStep(
        median=quantile(seconds, 0.5),
        p25=quantile(seconds, 0.25),
        p75=quantile(seconds, 0.75),
        n=len(seconds),
    )


def summarise_idleness(records: list[StepRecord]) -> IdleShare | None:
    """Return how much of the steps after the warm-up went by waiting for pictures."""
    kept = records[WARMUP_STEPS:]
    if not kept:
        return None
    return IdleShare(
        mean=sum(r.idle_seconds for r in kept) / sum(r.seconds for r in kept),
        largest=max(r.idle_seconds / r.seconds for r in kept),
        n=len(kept),
    )


def quantile(values: list[float], share: float) -> float:
    """Interpolate linearly between the two values around a share of a sorted list."""
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])
