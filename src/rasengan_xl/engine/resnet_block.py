"""A frozen block of convolutions that keeps only what its backward pass needs."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, cast

import torch
from diffusers.models.resnet import ResnetBlock2D
from jaxtyping import Float
from torch import Tensor, nn

from rasengan_xl.engine.convolution import FrozenConv2d
from rasengan_xl.engine.group_norm import fused_group_norm, is_frozen_norm

_checkpoints: Any = import_module("torch.utils.checkpoint")  # carries no types


class LeanResnetBlock(nn.Module):
    """What diffusers' block computes, through the same children under the same names.

    Children that are wrapped or trained are called as they are.
    """

    norm1: nn.Module
    conv1: nn.Module
    time_emb_proj: nn.Module
    norm2: nn.Module
    dropout: nn.Dropout
    conv2: nn.Module
    nonlinearity: nn.Module
    conv_shortcut: nn.Module | None
    recompute: bool
    """Keep what the block starts from, and compute all else again in the backward pass."""

    def __init__(
        self,
        block: ResnetBlock2D,
        *,
        fuse_norms: bool = False,
        recompute: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        for name, child in block.named_children():
            self.add_module(name, child)
        self.conv_shortcut = block.conv_shortcut
        self.output_scale_factor: float = block.output_scale_factor
        self.skip_time_act: bool = block.skip_time_act
        self.fuse_norms = fuse_norms
        self.recompute = recompute
        self.compiled = compiled
        self.train(block.training)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch in_channel height width"],
        temb: Float[Tensor, "batch time_width"],
    ) -> Float[Tensor, "batch out_channel height width"]:
        """Add to the pictures, or to their shortcut, what two convolutions make of them."""
        compute = _compile() if self.compiled else LeanResnetBlock.compute
        if not (self.recompute and torch.is_grad_enabled()):
            return compute(self, hidden_states, temb)
        return _checkpoints.checkpoint(
            compute,
            self,
            hidden_states,
            temb,
            use_reentrant=False,
            preserve_rng_state=self._draws(),  # which reads the generator's state off the GPU
        )

    def compute(self, pictures: Tensor, time: Tensor) -> Tensor:
        """Compute the block; autograd keeps what it needs."""
        hidden = self.conv1(self._normalize(pictures, self.norm1))
        activated = time if self.skip_time_act else self.nonlinearity(time)
        hidden = self._normalize(hidden, self.norm2, self.time_emb_proj(activated))
        hidden = self.conv2(self.dropout(hidden))
        start = pictures if self.conv_shortcut is None else self.conv_shortcut(pictures)
        factor = self.output_scale_factor
        # In place: nothing keeps what the last convolution made, unless an adapter is on it.
        hidden = hidden.add_(start) if isinstance(self.conv2, FrozenConv2d) else hidden + start
        return hidden if factor == 1 else hidden / factor

    def _normalize(self, pictures: Tensor, norm: nn.Module, shift: Tensor | None = None) -> Tensor:
        """Normalize and activate what a convolution is to read."""
        fuses = self.fuse_norms and isinstance(self.nonlinearity, nn.SiLU)
        if fuses and is_frozen_norm(norm):
            return fused_group_norm(pictures, cast("nn.GroupNorm", norm), shift, activate=True)
        shifted = pictures if shift is None else pictures + shift[:, :, None, None]
        return self.nonlinearity(norm(shifted))

    def _draws(self) -> bool:
        """Say whether computing the block may draw random numbers: an adapter's dropout may."""
        time: Any = self.time_emb_proj
        wrapped = not isinstance(time, nn.Linear) and getattr(time, "draws_by_chance", True)
        return self.training and (self.dropout.p > 0 or wrapped)


@cache
def _compile() -> Callable[[LeanResnetBlock, Tensor, Tensor], Tensor]:
    return torch.compile(LeanResnetBlock.compute)


def is_plain_block(module: nn.Module) -> bool:
    """Say whether a block is of the kind that SDXL has, for which `LeanResnetBlock` is made."""
    return (
        type(module) is ResnetBlock2D
        and module.time_embedding_norm == "default"
        and module.time_emb_proj is not None
        and module.upsample is None
        and module.downsample is None
    )
