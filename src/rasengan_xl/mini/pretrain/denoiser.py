"""Train the UNet of mini SDXL on plain portraits and a few other hands; never on shinobi."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Float
from torch import Generator, Tensor

from rasengan_xl.mini.architecture import build_scheduler
from rasengan_xl.mini.pretrain.fitting import FitRecord, FitSettings, fit
from rasengan_xl.mini.world.portraits import PICTURE_SIZE

SETTINGS = FitSettings(steps=5_000, learning_rate=1.5e-3, seed=3, warmup_steps=300, ema_decay=0.999)
BATCH_SIZE = 32
EMPTY_CAPTION_SHARE = 0.1
"""Share of pictures trained with zeroed text, for classifier-free guidance."""
STRANGE_SIZE_SHARE = 0.5
"""Share of pictures given made-up original sizes and crops, so that these change nothing."""
SNR_CAP = 5.0
"""Gamma of min-SNR weighting (arXiv:2303.09556); it shortens training from scratch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPortraits:
    """What the UNet trains on, encoded once."""

    latents: Float[Tensor, "picture channel height width"]
    """Scaled to unit variance."""
    prompts: Float[Tensor, "picture token text_width"]
    """Half precision, to fit in memory."""
    pooled_prompts: Float[Tensor, "picture pooled_width"]


def train_unet(
    unet: UNet2DConditionModel,
    portraits: EncodedPortraits,
    checkpoint: Path,
    settings: FitSettings,
) -> Iterator[FitRecord]:
    """Train the UNet in place, computing in bfloat16 over float32 weights."""
    device = next(unet.parameters()).device
    model = cast("Any", unet)
    model.to(memory_format=torch.channels_last)
    alpha_bars = build_scheduler().alphas_cumprod

    def loss_at_step(generator: Generator) -> Tensor:
        chosen = torch.randint(len(portraits.latents), (BATCH_SIZE,), generator=generator)
        latents = portraits.latents[chosen]
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = _stratified_timesteps(len(alpha_bars), generator)
        alpha_bar = alpha_bars[timesteps].view(-1, 1, 1, 1)
        noised = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise
        kept = _chance(1 - EMPTY_CAPTION_SHARE, generator)
        condition = {
            "text_embeds": (portraits.pooled_prompts[chosen] * kept[:, None]).to(device),
            "time_ids": _size_numbers(generator).to(device),
        }
        prompts = (portraits.prompts[chosen].float() * kept[:, None, None]).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            predicted: Tensor = model(
                noised.to(device, memory_format=torch.channels_last),
                timesteps.to(device),
                prompts,
                added_cond_kwargs=condition,
            ).sample
        errors = (predicted.float().cpu() - noise).square().mean(dim=(1, 2, 3))
        snr = alpha_bar.flatten() / (1 - alpha_bar.flatten())
        return (errors * (snr.clamp(max=SNR_CAP) / snr)).mean()

    yield from fit(unet, loss_at_step, settings, checkpoint)
    model.to(memory_format=torch.contiguous_format)


def _stratified_timesteps(count: int, generator: Generator) -> Tensor:
    """Draw one timestep from each of `BATCH_SIZE` equal parts of the schedule."""
    places = (torch.arange(BATCH_SIZE) + torch.rand(BATCH_SIZE, generator=generator)) / BATCH_SIZE
    return (places * count).long()


def _size_numbers(generator: Generator) -> Tensor:
    """Return (original height, width, crop top, left, target height, width), [BATCH_SIZE, 6]."""
    true = torch.tensor([PICTURE_SIZE, PICTURE_SIZE, 0, 0, PICTURE_SIZE, PICTURE_SIZE]).float()
    original = PICTURE_SIZE * 2 ** (5 * torch.rand(BATCH_SIZE, 2, generator=generator))
    corner = PICTURE_SIZE * torch.rand(BATCH_SIZE, 2, generator=generator)
    strange = torch.cat([original.round(), corner.round(), true[4:].expand(BATCH_SIZE, 2)], dim=1)
    is_strange = _chance(STRANGE_SIZE_SHARE, generator)[:, None]
    return torch.where(is_strange > 0, strange, true.expand(BATCH_SIZE, 6))


def _chance(share: float, generator: Generator) -> Tensor:
    return (torch.rand(BATCH_SIZE, generator=generator) < share).float()
