"""Prompts and seeds to pictures, each a function of its prompt and seed alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from PIL import Image
from torch import Tensor

from rasengan_xl.config.settings import PictureSettings
from rasengan_xl.errors import DivergedError
from rasengan_xl.sdxl.latents import decode_latents


@dataclass(frozen=True, slots=True)
class Request:
    """One picture to draw."""

    prompt: str
    seed: int
    """Fixes the first noise: the same as `torch.Generator().manual_seed(seed)` in diffusers."""


def list_requests(settings: PictureSettings) -> list[Request]:
    """List every prompt with every seed."""
    return [Request(prompt, seed) for prompt in settings.prompts for seed in settings.seeds]


def draw_pictures(
    pipeline: StableDiffusionXLPipeline, settings: PictureSettings, size: int
) -> Iterator[Image.Image]:
    """Draw every request in order.

    Args:
        pipeline: Base model, with or without an adapter on it.
        settings: What to draw and how.
        size: Side in pixels.
    """
    requests = list_requests(settings)
    for start in range(0, len(requests), settings.batch_size):
        yield from _draw(pipeline, requests[start : start + settings.batch_size], settings, size)


@torch.no_grad()
def _draw(
    pipeline: StableDiffusionXLPipeline,
    requests: Sequence[Request],
    settings: PictureSettings,
    size: int,
) -> list[Image.Image]:
    negative = settings.negative_prompt
    draw = cast("Any", pipeline)  # its answer has one of two types, by an argument
    latents: Tensor = draw(
        prompt=[request.prompt for request in requests],
        negative_prompt=None if negative is None else [negative] * len(requests),
        num_inference_steps=settings.sampler_steps,
        guidance_scale=settings.guidance,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        height=size,
        width=size,
        output_type="latent",
    ).images
    return _decode(pipeline, latents)


def _decode(pipeline: StableDiffusionXLPipeline, latents: Tensor) -> list[Image.Image]:
    """Decode in float32: SDXL's VAE gives black pictures in float16."""
    decoded = decode_latents(cast("Any", pipeline).vae, latents)
    if not decoded.isfinite().all():
        raise DivergedError(
            "a picture came out not finite; lower --guidance, or use compute.precision = 'fp32'"
        )
    pipeline.maybe_free_model_hooks()
    processor = cast("Any", pipeline.image_processor)
    return processor.postprocess(decoded, output_type="pil")
