"""What the device can do at most, by a few seconds of matrix products."""

import torch

from rasengan_xl.comparison.result import Probe
from rasengan_xl.runs.cost import Stopwatch
from rasengan_xl.runs.provenance import name_device
from rasengan_xl.sdxl.compute import Compute

SECONDS = 3.0
_SIDES = {"cuda": 8192, "cpu": 2048}


def recall_or_measure_peak(compute: Compute, known: Probe | None) -> Probe:
    """Return what was found before of the same device in the same precision, or measure it."""
    here = (name_device(compute.device), _name_precision(compute))
    if known is not None and (known.device_name, known.precision) == here:
        return known
    return measure_peak(compute)


def measure_peak(compute: Compute, seconds: float = SECONDS) -> Probe:
    """Multiply square matrices for some seconds, and take the fastest product.

    Args:
        compute: On what, in which precision.
        seconds: How long.
    """
    side = _SIDES[compute.device.type]
    matrix = torch.randn(side, side, device=compute.device).to(compute.dtype)
    product = torch.empty_like(matrix)
    torch.matmul(matrix, matrix, out=product)  # the first one chooses a kernel
    stopwatch, fastest, spent = Stopwatch(compute.device), float("inf"), 0.0
    while spent < seconds:
        stopwatch.start()
        torch.matmul(matrix, matrix, out=product)
        lap = stopwatch.lap()
        spent += lap
        fastest = min(fastest, lap)
    return Probe(
        teraflops_per_second=2 * side**3 / fastest / 1e12,
        precision=_name_precision(compute),
        seconds=spent,
        side=side,
        device_name=name_device(compute.device),
    )


def _name_precision(compute: Compute) -> str:
    return str(compute.dtype).removeprefix("torch.")
