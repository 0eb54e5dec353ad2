"""Pictures to latents: the VAE's posterior, in float32, checked to be finite."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from PIL import Image
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """The normal distribution that the VAE gives a picture; unscaled."""

    mean: Float[Tensor, "channel height width"]
    deviation: Float[Tensor, "channel height width"]

    @property
    def is_finite(self) -> bool:
        """Whether every value is a number; SDXL's VAE overflows on some pictures in float16."""
        return bool(self.mean.isfinite().all() and self.deviation.isfinite().all())


@torch.no_grad()
def encode_pictures(
    vae: AutoencoderKL, pictures: Iterable[Image.Image], batch_size: int
) -> Iterator[Posterior]:
    """Encode RGB pictures of one size, batch by batch; results come to the CPU."""
    batch: list[Tensor] = []
    for picture in pictures:
        batch.append(_to_signed(picture))
        if len(batch) == batch_size:
            yield from _encode(vae, batch)
            batch = []
    if batch:
        yield from _encode(vae, batch)


@torch.no_grad()
def decode_latents(vae: AutoencoderKL, latents: Tensor) -> Float[Tensor, "batch 3 height width"]:
    """Decode scaled latents to pixels in [-1, 1], in float32."""
    decoder: Any = vae
    return decoder.decode(latents.float() / scaling_factor(vae), return_dict=False)[0]


def scaling_factor(vae: AutoencoderKL) -> float:
    """Return what latents are multiplied by, to have about unit variance."""
    config: Any = vae.config
    return float(config.scaling_factor)


def _encode(vae: AutoencoderKL, batch: list[Tensor]) -> Iterator[Posterior]:
    encoder: Any = vae
    posterior = encoder.encode(torch.stack(batch).to(vae.device)).latent_dist
    for mean, deviation in zip(posterior.mean.cpu(), posterior.std.cpu(), strict=True):
        yield Posterior(mean=mean, deviation=deviation)


def _to_signed(picture: Image.Image) -> Float[Tensor, "3 height width"]:
    pixels = torch.from_numpy(np.array(picture, dtype=np.float32))
    return (pixels / 127.5 - 1).permute(2, 0, 1)
