"""Where a kernel in Triton can take the place of PyTorch's own."""

import logging
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

FOR_BF16 = (8, 0)
"""Compute capability that converts bfloat16; older GPUs have float16 alone."""
OLDEST = (7, 5)
"""Compute capability of the oldest GPU that Triton still compiles for, the T4's."""

logger = logging.getLogger(__name__)


def has_kernels(tensor: Tensor) -> bool:
    """Say whether a tensor is where, and of a type that, the kernels can read."""
    if not tensor.is_cuda or tensor.dtype not in {torch.bfloat16, torch.float16, torch.float32}:
        return False
    needed = FOR_BF16 if tensor.dtype == torch.bfloat16 else OLDEST
    return _capability(tensor.device) >= needed and kernels_work(tensor.device)


@cache
def load_kernels(name: str) -> Any:
    """Import a module of kernels; only where Triton is installed can it be."""
    return import_module(f"rasengan_xl.engine.kernels.{name}")


def kernels_work(device: torch.device) -> bool:
    """Say whether Triton is there, knows the GPU, and finds the C compiler that it needs."""
    return why_no_kernels(device) is None


@cache
def why_no_kernels(device: torch.device) -> str | None:
    """Name what keeps Triton's kernels from a GPU; None: nothing."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    if device.type == "cuda" and _capability(device) < OLDEST:
        return "this GPU is older than those that Triton compiles for"
    one = torch.ones(1, 1, device=device)
    try:
        load_kernels("gain").apply_(one, one[0], None)
    except Exception as error:  # Triton's own share no class that can be named without Triton
        logger.warning("Triton does not work here: computing slower without it (%s)", error)
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        return f"Triton does not work here ({reason})"
    return None


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
