"""A witness of a base model, taken before an adapter is put on it: has it changed since?"""

from dataclasses import dataclass
from typing import cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from rasengan_xl.adapters.verification.block_inputs import recorded
from rasengan_xl.adapters.verification.probe import Output, unet_output
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.stored_tensors import list_tensors

_WRAPPED = ".base_layer."
"""Where the weights of a layer move that gets an adapter of its own."""
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFingerprint:
    """What a base model computes, and a sum over the bits of each of its weights."""

    output: Output
    block_inputs: dict[str, Tensor]
    """What went into each of its blocks on the way to that output."""
    sums: dict[str, int]

    def find_changed(self, unet: UNet2DConditionModel) -> list[str]:
        """Name the weights of the base that are not what they were."""
        now = _sum_bits(unet)
        return [name for name, value in self.sums.items() if now.get(name) != value]


def take_fingerprint(unet: UNet2DConditionModel, compute: Compute) -> BaseFingerprint:
    """Look at a base before it is changed; takes about as long as reading its weights once."""
    with recorded(unet) as block_inputs:
        output = computed_output(unet, compute)
    return BaseFingerprint(output=output, block_inputs=block_inputs, sums=_sum_bits(unet))


def computed_output(unet: UNet2DConditionModel, compute: Compute) -> Output:
    """Return what a UNet computes of fixed inputs in a run's precision, without dropout."""
    was_training = unet.training
    unet.eval()
    with compute.autocast():
        output = unet_output(unet)
    unet.train(was_training)
    return output


@torch.no_grad()
def _sum_bits(unet: UNet2DConditionModel) -> dict[str, int]:
    """Add up each frozen weight as whole numbers: no change of one weight leaves that as it is.

    Scales of quantized weights count as weights.
    """
    named = list_tensors(unet)
    frozen = {name.replace(_WRAPPED, "."): p for name, p in named.items() if ".lora_" not in name}
    sums = torch.stack(
        [
            p.detach()
            .reshape(-1)
            .view(_BITS[p.element_size()])
            .sum(dtype=torch.int64)
            .to(unet.device)
            for p in frozen.values()
        ]
    )
    return dict(zip(frozen, cast("list[int]", sums.tolist()), strict=True))
