"""Latents to pictures, none of them black because a number overflowed."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from PIL import Image
from torch import Tensor

from rasengan_xl.errors import DivergedError
from rasengan_xl.sdxl.latents import decode_latents

RETRIED = "a picture overflowed in the VAE's 16-bit arithmetic: it was decoded again in float32"


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pictures, and what the user must be told of them; empty: nothing."""

    pictures: list[Image.Image]
    note: str = ""


def bears_half_precision(vae: AutoencoderKL) -> bool:
    """Tell whether a VAE was made for float16, as github.com/madebyollin's fp16-fix was.

    SDXL's own overflows there, and says so by `force_upcast`.
    """
    config: Any = vae.config
    return config.get("force_upcast") is False


def decode(
    pipeline: StableDiffusionXLPipeline, latents: Tensor, *, in_half: bool = False
) -> Decoded:
    """Decode in float32, or in float16 with float32 to fall back on.

    Args:
        pipeline: Has the VAE, in float32.
        latents: Scaled, as the sampler leaves them.
        in_half: Compute in float16.

    Raises:
        DivergedError: A picture is not finite in float32 either.
    """
    vae: AutoencoderKL = cast("Any", pipeline).vae
    note = ""
    with torch.autocast(latents.device.type, torch.float16, enabled=in_half):
        decoded = decode_latents(vae, latents)
    if in_half and not decoded.isfinite().all():
        decoded, note = decode_latents(vae, latents), RETRIED
    if not decoded.isfinite().all():
        raise DivergedError(
            "a picture came out not finite; lower --guidance, or use compute.precision = 'fp32'"
        )
    pipeline.maybe_free_model_hooks()
    processor: Any = cast("Any", pipeline.image_processor)
    return Decoded(processor.postprocess(decoded.float(), output_type="pil"), note)
