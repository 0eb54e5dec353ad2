"""Train the attribute reader on portraits of every style, as drawn and as the VAE redraws them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Int, UInt8
from torch import Generator, Tensor

from rasengan_xl.mini.pretrain.autoencoder import batches, to_signed
from rasengan_xl.mini.pretrain.disturbances import disturb
from rasengan_xl.mini.pretrain.fitting import FitRecord, FitSettings, fit
from rasengan_xl.mini.reader.network import QUESTIONS, ReaderNetwork

SETTINGS = FitSettings(steps=5_000, learning_rate=3e-3, seed=4, warmup_steps=200, ema_decay=0.998)
BATCH_SIZE = 128
LABEL_SMOOTHING = 0.05
LARGEST_LATENT_NOISE = 0.15
"""Noise on the latents that are redrawn, up to this share of their deviation: a generated latent is
never quite one that the encoder would have made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderPortraits:
    """Portraits with known answers."""

    drawn: UInt8[Tensor, "picture 3 height width"]
    redrawn: UInt8[Tensor, "picture 3 height width"]
    """The same ones after the VAE."""
    answers: Int[Tensor, "picture question"]
    """Which choice is right, for each of `QUESTIONS`."""


def train_reader(
    network: ReaderNetwork, portraits: ReaderPortraits, checkpoint: Path, settings: FitSettings
) -> Iterator[FitRecord]:
    """Train the reader in place; every picture of a step is drawn or redrawn, by lot."""
    device = next(network.parameters()).device
    model = cast("Any", network)
    model.to(memory_format=torch.channels_last)
    drawn, redrawn = portraits.drawn.to(device), portraits.redrawn.to(device)

    def loss_at_step(generator: Generator) -> Tensor:
        chosen = torch.randint(len(drawn), (BATCH_SIZE,), generator=generator)
        after_vae = torch.rand(BATCH_SIZE, 1, 1, 1, generator=generator) < 0.5
        places = chosen.to(device)
        pictures = torch.where(after_vae.to(device), redrawn[places], drawn[places])
        disturbed = disturb(to_signed(pictures), generator)
        truth = portraits.answers[chosen].to(device)
        losses = [
            F.cross_entropy(logits, truth[:, i], label_smoothing=LABEL_SMOOTHING)
            for i, logits in enumerate(
                network(disturbed.contiguous(memory_format=torch.channels_last))
            )
        ]
        return torch.stack(losses).mean()

    yield from fit(network, loss_at_step, settings, checkpoint)
    model.to(memory_format=torch.contiguous_format)


@torch.no_grad()
def redraw(
    vae: AutoencoderKL,
    pictures: UInt8[Tensor, "picture 3 height width"],
    seed: int | None = None,
) -> UInt8[Tensor, "picture 3 height width"]:
    """Encode and decode pictures.

    Args:
        vae: Trained autoencoder.
        pictures: What to redraw.
        seed: Draws the noise on the latents, `LARGEST_LATENT_NOISE` at most; none without it.
    """
    device = next(vae.parameters()).device
    model = cast("Any", vae)
    largest = 0.0 if seed is None else LARGEST_LATENT_NOISE
    generator = Generator().manual_seed(seed or 0)
    redrawn: list[Tensor] = []
    for batch in batches(pictures, 200):
        latents: Tensor = model.encode(to_signed(batch.to(device))).latent_dist.mean
        strength = largest * torch.rand(len(batch), 1, 1, 1, generator=generator)
        noise = strength * torch.randn(latents.shape, generator=generator)
        moved = latents + noise.to(device) / vae.config["scaling_factor"]
        decoded: Tensor = model.decode(moved).sample
        redrawn.append(((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().cpu())
    return torch.cat(redrawn)


@torch.no_grad()
def reading_accuracy(
    network: ReaderNetwork,
    pictures: UInt8[Tensor, "picture 3 height width"],
    answers: Int[Tensor, "picture question"],
) -> dict[str, float]:
    """Return, for each of `QUESTIONS`, the share of pictures that are read rightly."""
    device = next(network.parameters()).device
    readings = [
        torch.stack([logits.argmax(dim=1) for logits in network(to_signed(batch.to(device)))], 1)
        for batch in batches(pictures, 500)
    ]
    right = torch.cat(readings).cpu() == answers
    shares = cast("list[float]", right.double().mean(dim=0).tolist())
    return dict(zip(QUESTIONS, shares, strict=True))
