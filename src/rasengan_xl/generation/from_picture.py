"""Pictures drawn from a given one, part of whose form is kept (img2img; arXiv:2108.01073)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img import (
    StableDiffusionXLImg2ImgPipeline,
)
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from rasengan_xl.errors import DivergedError, RecipeError
from rasengan_xl.generation.devices import execution_device
from rasengan_xl.sdxl.latents import scaling_factor
from rasengan_xl.sources.decoding import decode_picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A picture to start from."""

    picture: Image.Image
    """Upright, RGB, in its own size."""
    denoise: float
    """Share of the noise that is put on it; 1: nothing of it is left."""
    name: str
    """Of its file."""


def open_start(file: Path, denoise: float, sampler_steps: int) -> Start:
    """Read the picture to start from.

    Raises:
        RecipeError: There is no such file, or no step would be left.
        DatasetError: It is no picture that can be used.
    """
    if int(sampler_steps * denoise) < 1:
        raise RecipeError(
            f"generate: denoise = {denoise:g} of {sampler_steps} steps leaves none; raise one of "
            "them"
        )
    try:
        content = file.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RecipeError(f"generate: from_picture = {str(file)!r}: {reason}") from error
    picture = decode_picture(content, str(file))
    return Start(picture=picture, denoise=denoise, name=file.name)


@torch.no_grad()
def encode_start(
    pipeline: StableDiffusionXLPipeline, start: Start, size: tuple[int, int]
) -> Float[Tensor, "1 4 height width"]:
    """Encode the picture, cut around its middle to the shape that is drawn.

    Its mean latent is taken, not a draw from the posterior: noise enough is put on it.

    Raises:
        DivergedError: The picture encodes to something not finite.
    """
    parts: Any = pipeline
    cut = ImageOps.fit(start.picture, size, Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(cut, dtype=np.float32)).permute(2, 0, 1)[None]
    signed = (pixels / 127.5 - 1).to(execution_device(pipeline))
    latent: Tensor = parts.vae.encode(signed).latent_dist.mean * scaling_factor(parts.vae)
    if not latent.isfinite().all():
        raise DivergedError(
            f"{start.name}: the VAE encodes it to something not finite; give another picture"
        )
    return latent


def from_picture_pipeline(pipeline: StableDiffusionXLPipeline) -> Any:
    """Return the pipeline that starts from a picture, made of the very same parts."""
    kind: Any = StableDiffusionXLImg2ImgPipeline
    config: Any = pipeline.config
    made = kind(
        **pipeline.components,
        force_zeros_for_empty_prompt=config.force_zeros_for_empty_prompt,
        add_watermarker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made
