"""Where a run computes, and in which precision."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from rasengan_xl.config.settings import ComputeSettings
from rasengan_xl.errors import DeviceError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_FIRST_BF16_CAPABILITY = 8
"""Compute capability of Ampere; older GPUs (a T4 is 7.5) only emulate bfloat16."""


@dataclass(frozen=True, slots=True)
class Compute:
    """A device, and the number format of the frozen base and of arithmetic on it."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> torch.autocast:
        """Compute in `dtype` whatever the adapter's own precision is; nothing in float32."""
        mixed = self.dtype is not torch.float32
        return torch.autocast(self.device.type, self.dtype if mixed else None, enabled=mixed)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Compute in the tensors' own precision; the meta device knows no autocast to leave."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def choose_compute(settings: ComputeSettings) -> Compute:
    """Turn `auto` into what this machine has.

    Raises:
        DeviceError: CUDA is asked for where there is none, or fp16 on a CPU.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "compute.device = 'cuda': PyTorch sees no GPU here; check the driver and that torch "
            "is a CUDA build, or write --set compute.device=cpu"
        )
    on_cuda = settings.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_cuda else "cpu")
    if settings.precision == "fp16" and not on_cuda:
        raise DeviceError("compute.precision = 'fp16': needs a GPU; use fp32 or bf16 on a CPU")
    if settings.precision != "auto":
        return Compute(device, _DTYPES[settings.precision])
    if not on_cuda:
        return Compute(device, torch.float32)
    has_bf16 = torch.cuda.get_device_capability(device)[0] >= _FIRST_BF16_CAPABILITY
    return Compute(device, torch.bfloat16 if has_bf16 else torch.float16)
