"""Train the autoencoder of mini SDXL on every style, shinobi included."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Generator, Tensor

from rasengan_xl.mini.pretrain.fitting import FitRecord, FitSettings, fit

SETTINGS = FitSettings(steps=5_500, learning_rate=3e-3, seed=1, ema_decay=0.998)
BATCH_SIZE = 16
SQUARED_ERROR_WEIGHT = 2.0
KL_WEIGHT = 2e-4
"""Weight of the mean KL divergence per latent value; small, so that detail survives."""


def train_vae(
    vae: AutoencoderKL, pictures: Tensor, checkpoint: Path, settings: FitSettings
) -> Iterator[FitRecord]:
    """Train the autoencoder in place.

    Args:
        vae: Fresh or half-trained autoencoder.
        pictures: Bytes, [picture, 3, height, width].
        checkpoint: Where the state is kept.
        settings: How long and how fast.
    """
    device = next(vae.parameters()).device
    model = cast("Any", vae)
    model.to(memory_format=torch.channels_last)

    def loss_at_step(generator: Generator) -> Tensor:
        chosen = torch.randint(len(pictures), (BATCH_SIZE,), generator=generator)
        truth = to_signed(pictures[chosen]).to(device, memory_format=torch.channels_last)
        posterior = model.encode(truth).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
        drawn: Tensor = model.decode(posterior.mean + posterior.std * noise).sample
        absolute, squared = F.l1_loss(drawn, truth), F.mse_loss(drawn, truth)
        divergence: Tensor = posterior.kl().mean() / posterior.mean[0].numel()
        return absolute + SQUARED_ERROR_WEIGHT * squared + KL_WEIGHT * divergence

    yield from fit(vae, loss_at_step, settings, checkpoint)
    model.to(memory_format=torch.contiguous_format)


@torch.no_grad()
def encode_means(vae: AutoencoderKL, pictures: Tensor, batch_size: int = 100) -> Tensor:
    """Encode bytes to unscaled posterior means, [picture, 4, height/4, width/4]."""
    device = next(vae.parameters()).device
    model = cast("Any", vae)
    means: list[Tensor] = [
        model.encode(to_signed(batch).to(device)).latent_dist.mean.cpu()
        for batch in batches(pictures, batch_size)
    ]
    return torch.cat(means)


@torch.no_grad()
def reconstruction_psnr_db(vae: AutoencoderKL, pictures: Tensor) -> float:
    """Return the mean peak signal-to-noise ratio of decoded pictures, in decibels."""
    device = next(vae.parameters()).device
    model = cast("Any", vae)
    ratios: list[Tensor] = []
    for batch in batches(pictures, 100):
        posterior = model.encode(to_signed(batch).to(device)).latent_dist
        drawn: Tensor = model.decode(posterior.mean).sample
        error = (drawn.cpu().clamp(-1, 1) - to_signed(batch)).square().mean(dim=(1, 2, 3))
        ratios.append(10 * torch.log10(4.0 / error))
    return torch.cat(ratios).mean().item()


def batches(rows: Tensor, size: int) -> Iterator[Tensor]:
    """Cut a tensor into batches along its first dimension."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def to_signed(pictures: Tensor) -> Tensor:
    """Map bytes to floats in [-1, 1]."""
    return pictures.float() / 127.5 - 1
