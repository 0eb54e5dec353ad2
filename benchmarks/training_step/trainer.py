"""What every trainer gives to be measured, and the UNet that all of them start from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rasengan_xl.mini import architecture
from rasengan_xl.sdxl.full_size import build_full_size_unet
from rasengan_xl.sdxl.objective import LatentBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """A trainer at work on a UNet of its own."""

    unet: Any
    steps: Callable[[int], Iterator[float]]
    """Take as many optimizer steps one by one, each on new inputs; yields losses."""
    forward: Callable[[], Tensor]
    """Compute a step's loss on tensors without values, to count what that takes."""
    losses: Callable[[LatentBatch], Tensor]
    """Compute the mean loss of a given batch."""
    gradients: Callable[[], dict[str, Tensor]]
    """Return what was back-propagated since the last step, by PEFT's names."""
    weights: Callable[[], dict[str, Tensor]]
    """Return the adapter's weights, by PEFT's names."""
    notes: list[str] = field(default_factory=list[str])
    """What a user would be told of the steps that were taken."""
    skipped: list[int] | None = None
    """Steps that fp16 overflow made void, if the trainer tells."""


def build_unet(device: torch.device, dtype: torch.dtype, *, small: bool) -> Any:
    """Build the UNet where it computes, in the precision it computes in, with the same weights."""
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            unet = architecture.build_unet() if small else build_full_size_unet()
    finally:
        torch.set_default_dtype(default)
    return unet.requires_grad_(requires_grad=False)
