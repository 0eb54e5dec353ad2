"""Pictures to latents: the VAE's posterior, in float32, checked to be finite."""

from collections.abc import Sequence
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
    vae: AutoencoderKL, pictures: Sequence[Image.Image], batch_size: int
) -> list[Posterior]:
    """Encode RGB pictures of one size as one batch; results come to the CPU.

    The batch is filled up to its size: how a picture is computed, and so the last bits of the
    result, may depend on the size of its batch.
    """
    filled = [*pictures, *(pictures[-1] for _ in range(batch_size - len(pictures)))]
    encoder: Any = vae
    batch = torch.stack([_to_signed(picture) for picture in filled])
    posterior = encoder.encode(batch.to(vae.device)).latent_dist
    return [
        Posterior(mean=mean, deviation=deviation)
        for mean, deviation in zip(
            posterior.mean.cpu()[: len(pictures)], posterior.std.cpu()[: len(pictures)], strict=True
        )
    ]


@torch.no_grad()
def decode_latents(vae: AutoencoderKL, latents: Tensor) -> Float[Tensor, "batch 3 height width"]:
    """Decode scaled latents to pixels in [-1, 1], in float32."""
    decoder: Any = vae
    return decoder.decode(latents.float() / scaling_factor(vae), return_dict=False)[0]


def scaling_factor(vae: AutoencoderKL) -> float:
    """Return what latents are multiplied by, to have about unit variance."""
    config: Any = vae.config
    return float(config.scaling_factor)


def _to_signed(picture: Image.Image) -> Float[Tensor, "3 height width"]:
    pixels = torch.from_numpy(np.array(picture, dtype=np.float32))
    return (pixels / 127.5 - 1).permute(2, 0, 1)
