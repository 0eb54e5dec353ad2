"""Where a kernel in Triton can take the place of PyTorch's own."""

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


def has_kernels(tensor: Tensor) -> bool:
    """Say whether a tensor is where, and of a type that, the kernels can read."""
    if not tensor.is_cuda or not _triton_is_there():
        return False
    if tensor.dtype == torch.bfloat16:
        return _capability(tensor.device) >= FOR_BF16
    return tensor.dtype in {torch.float16, torch.float32} and (_capability(tensor.device) >= OLDEST)


@cache
def load_kernels(name: str) -> Any:
    """Import a module of kernels; only where Triton is installed can it be."""
    return import_module(f"rasengan_xl.engine.kernels.{name}")


@cache
def _triton_is_there() -> bool:
    return find_spec("triton") is not None


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
