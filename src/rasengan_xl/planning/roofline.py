"""How long a pass takes on a GPU: its work over what the GPU can do at best, and at what share.

The roofline model (doi:10.1145/1498765.1498785), operation by operation: each takes as long as its
arithmetic or its traffic would at the data sheet's rate, whichever is longer; each kind reaches
its own share of that.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize

from rasengan_xl.planning.gpus import GPU
from rasengan_xl.planning.work import Work

_KINDS = ("matmul", "convolution", "attention", "memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiencies:
    """Which share of the data sheet's rates is reached, and where that was measured."""

    matmul: float
    convolution: float
    attention: float
    memory: float
    kernel_microseconds: float
    """Between two kernels, and to fill and drain the GPU, however small they are."""
    basis: str


ESTIMATED = Efficiencies(
    matmul=0.6,
    convolution=0.45,
    attention=0.4,
    memory=0.7,
    kernel_microseconds=2.0,
    basis="estimates, not calibrated on a GPU",
)
CALIBRATED = Efficiencies(
    matmul=0.654,
    convolution=0.490,
    attention=0.436,
    memory=0.763,
    kernel_microseconds=5.59,
    basis="shares of the data sheet's rates as 7 recorded steps reached them on an H200",
)
"""What predictions are made with; `benchmarks/plan_accuracy.py --fit` prints better ones."""
_SUSTAINED = {"T4": 0.45, "L4": 0.6}
"""Share of the above on GPUs that cannot hold their clock: 70 and 72 W; estimates."""


def basis_of(gpu: GPU) -> str:
    """Say what predictions for a GPU rest on."""
    sustained = _SUSTAINED.get(gpu.name)
    if sustained is None:
        return CALIBRATED.basis
    return (
        f"{CALIBRATED.basis}; that a {gpu.name}, which cannot hold its clock, keeps up "
        f"{sustained:.0%} of that is an estimate"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedTime:
    """Seconds of a pass, and what bounds them."""

    seconds: float
    launch_bound: bool
    """Whether the host is slower in launching than the GPU in computing."""


def predict_seconds(
    work: Work, gpu: GPU, *, graph: bool, shares: Efficiencies = CALIBRATED
) -> PredictedTime:
    """Predict how long some work takes.

    Args:
        work: What is to be done.
        gpu: Where.
        graph: Whether kernels are launched all at once, as a CUDA graph.
        shares: What is reached of the GPU's rates.
    """
    ideal = ideal_seconds(work, gpu)
    sustained = _SUSTAINED.get(gpu.name, 1.0)
    computing = sum(ideal[kind] / getattr(shares, kind) for kind in _KINDS) / sustained
    computing += work.kernels * shares.kernel_microseconds * 1e-6
    launching = 0.0 if graph else work.kernels * gpu.launch_microseconds * 1e-6
    return PredictedTime(seconds=max(computing, launching), launch_bound=launching > computing)


def ideal_seconds(work: Work, gpu: GPU) -> dict[str, float]:
    """Return the seconds of each kind of operation at the data sheet's rates."""
    seconds: dict[str, float] = dict.fromkeys(_KINDS, 0.0)
    for operation, count in work.operations.items():
        arithmetic = operation.flops / (gpu.teraflops * 1e12)
        traffic = operation.bytes / (gpu.gigabytes_per_second * 1e9)
        seconds[operation.kind] += count * max(arithmetic, traffic)
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """A measured pass beside its ideal."""

    ideal: dict[str, float]
    """As `ideal_seconds` tells."""
    kernels: int
    seconds: float
    """Measured, where launches did not bound it."""


def fit_efficiencies(timings: Sequence[Timing], basis: str) -> Efficiencies:
    """Find the time of a kernel, and what all shares are times those estimated, by least squares.

    All steps of one model mix their kinds of work alike: they tell no more than that apart.
    Relative errors are what is squared.

    Args:
        timings: At least two; on one kind of GPU.
        basis: Where they were measured.
    """
    columns = [
        [sum(t.ideal[kind] / getattr(ESTIMATED, kind) for kind in _KINDS), t.kernels * 1e-6]
        for t in timings
    ]
    measured = np.array([timing.seconds for timing in timings])
    weighted = np.array(columns) / measured[:, None]
    solver: Any = optimize
    slowdown, kernel_microseconds = solver.nnls(weighted, np.ones(len(timings)))[0].tolist()
    shares = {kind: getattr(ESTIMATED, kind) / slowdown for kind in _KINDS}
    return Efficiencies(**shares, kernel_microseconds=kernel_microseconds, basis=basis)


def read_timings(file: Path) -> list[Timing]:
    """Read what `benchmarks/plan_accuracy.py` has written, but for what launches bound."""
    rows: Iterable[dict[str, Any]] = (
        json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()
    )
    return [
        Timing(ideal=row["ideal_seconds"], kernels=row["kernels"], seconds=row["seconds"])
        for row in rows
        if row.get("seconds") is not None and not row["launch_bound"]
    ]
