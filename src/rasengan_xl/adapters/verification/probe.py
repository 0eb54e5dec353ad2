"""What a model computes of fixed random inputs: a cheap witness of what its weights are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn

from rasengan_xl.sdxl.full_size import TOKENS
from rasengan_xl.sdxl.model_folder import LATENT_CHANNELS

TIMESTEPS = (200, 800)
"""One at which there is still a picture, one at which there is little but noise."""
SIDE = 8
"""Of the latents: the smallest that every block of SDXL's UNet can halve as often as it does.
All weights take part whatever the size."""
ROUNDING = 1e-6
"""Share of an output, or of a norm, that arithmetic in float32 leaves uncertain."""
_SEED = 0
_TOKENS_READ = 16

Output = Float[Tensor, "batch channel height width"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far two outputs are apart."""

    largest: float
    size: float
    """Root mean square of the difference."""
    share: float
    """The same over the root mean square of the first output."""


@torch.no_grad()
def unet_output(unet: UNet2DConditionModel) -> Output:
    """Return what a UNet predicts of fixed random inputs, on the CPU and in float32."""
    config: Any = unet.config
    generator = torch.Generator().manual_seed(_SEED)
    count = len(TIMESTEPS)
    sizes = 6 * config.addition_time_embed_dim
    pooled = config.projection_class_embeddings_input_dim - sizes

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(unet.device, unet.dtype)

    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        predicted = unet(
            draw(count, LATENT_CHANNELS, SIDE, SIDE),
            torch.tensor(TIMESTEPS, device=unet.device),
            draw(count, TOKENS, config.cross_attention_dim),
            added_cond_kwargs={
                "text_embeds": draw(count, pooled),
                "time_ids": torch.tensor([[1024, 1024, 0, 0, 1024, 1024]] * count).to(unet.device),
            },
        )
    return predicted.sample.float().cpu()


@torch.no_grad()
def text_outputs(encoders: Sequence[nn.Module]) -> list[Float[Tensor, "batch token width"]]:
    """Return the hidden states that SDXL takes of each encoder, of fixed random tokens."""
    states: list[Tensor] = []
    for encoder in encoders:
        model: Any = encoder
        generator = torch.Generator().manual_seed(_SEED)
        tokens = torch.randint(model.config.vocab_size, (1, _TOKENS_READ), generator=generator)
        found = model(tokens.to(model.device), output_hidden_states=True)
        states.append(found.hidden_states[-2].float().cpu())
    return states


def compare_outputs(first: Tensor, second: Tensor) -> Difference:
    """Measure how far two outputs are apart."""
    gap = (second - first).double()
    size, whole = (float(t.square().mean().sqrt()) for t in (gap, first.double()))
    share = size / whole if whole else math.inf if size else 0.0
    return Difference(largest=float(gap.abs().max()), size=size, share=share)
