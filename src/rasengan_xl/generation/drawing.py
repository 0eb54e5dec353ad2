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

from rasengan_xl.config.comparison_settings import PictureSettings
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How pictures are drawn."""

    size: int
    """Side in pixels."""
    sampler_steps: int
    guidance: float
    negative_prompt: str | None
    batch_size: int


def describe_drawing(settings: PictureSettings, size: int) -> Drawing:
    """Take from the settings how pictures are drawn, at the side `size` in pixels."""
    return Drawing(
        size=size,
        sampler_steps=settings.sampler_steps,
        guidance=settings.guidance,
        negative_prompt=settings.negative_prompt,
        batch_size=settings.batch_size,
    )


def draw_pictures(
    pipeline: StableDiffusionXLPipeline, requests: Sequence[Request], drawing: Drawing
) -> Iterator[Image.Image]:
    """Draw every request in order, with the base model or the adapter that is on it."""
    for start in range(0, len(requests), drawing.batch_size):
        yield from draw_batch(pipeline, requests[start : start + drawing.batch_size], drawing)


@torch.no_grad()
def draw_batch(
    pipeline: StableDiffusionXLPipeline, requests: Sequence[Request], drawing: Drawing
) -> list[Image.Image]:
    """Draw some pictures at once.

    Raises:
        DivergedError: A picture came out not finite.
    """
    negative = drawing.negative_prompt
    draw = cast("Any", pipeline)  # its answer has one of two types, by an argument
    latents: Tensor = draw(
        prompt=[request.prompt for request in requests],
        negative_prompt=None if negative is None else [negative] * len(requests),
        num_inference_steps=drawing.sampler_steps,
        guidance_scale=drawing.guidance,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        height=drawing.size,
        width=drawing.size,
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
