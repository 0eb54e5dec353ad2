"""Prompts and seeds to pictures, each a function of its prompt and seed alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from PIL import Image
from torch import Tensor

from rasengan_xl.generation.conditioning import condition, text_shape
from rasengan_xl.generation.decoding import decode
from rasengan_xl.generation.from_picture import Start, encode_start, from_picture_pipeline
from rasengan_xl.generation.requests import Drawing, Request, part_into_batches

OnStep = Callable[[float], None]
"""Told, while a batch is drawn, which share of its steps is done."""


@dataclass(frozen=True, slots=True)
class DrawnBatch:
    """Pictures that were drawn at once."""

    requests: Sequence[Request]
    pictures: list[Image.Image]
    note: str = ""
    """What the user must be told of them; empty: nothing."""


def draw_pictures(
    pipeline: StableDiffusionXLPipeline, requests: Sequence[Request], drawing: Drawing
) -> Iterator[Image.Image]:
    """Draw every request in order, with the base model or the adapter that is on it."""
    for batch in draw_batches(pipeline, requests, drawing):
        yield from batch.pictures


def draw_batches(
    pipeline: StableDiffusionXLPipeline,
    requests: Sequence[Request],
    drawing: Drawing,
    *,
    start: Start | None = None,
    on_step: OnStep | None = None,
) -> Iterator[DrawnBatch]:
    """Draw every request in order, at once what may be.

    A request never changes for what is drawn with it: in a batch, all are of one size, and need
    as many chunks of tokens.
    """

    def alike(request: Request) -> object:
        shape = text_shape(pipeline, request) if drawing.reads_emphasis else None
        return request.size or drawing.size, shape, request.negative_prompt is None

    for batch in part_into_batches(requests, drawing.batch_size, alike):
        yield draw_batch(pipeline, batch, drawing, start=start, on_step=on_step)


@torch.no_grad()
def draw_batch(
    pipeline: StableDiffusionXLPipeline,
    requests: Sequence[Request],
    drawing: Drawing,
    *,
    start: Start | None = None,
    on_step: OnStep | None = None,
) -> DrawnBatch:
    """Draw some pictures at once, which must be alike in size and in the shape of their texts.

    Args:
        pipeline: Base model, and the adapter that is on it.
        requests: What to draw.
        drawing: How.
        start: A picture to start from, instead of noise alone.
        on_step: Told how far it is.

    Raises:
        DivergedError: A picture came out not finite.
    """
    draw: Any = pipeline if start is None else from_picture_pipeline(pipeline)
    size = requests[0].size or drawing.size
    told = {} if on_step is None else {"callback_on_step_end": _teller(draw, on_step)}
    latents: Tensor = draw(
        **_texts(pipeline, requests, drawing),
        **_beginning(pipeline, requests, size, start),
        **told,
        num_inference_steps=drawing.sampler_steps,
        guidance_scale=drawing.guidance,
        guidance_rescale=drawing.guidance_rescale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        output_type="latent",
    ).images
    decoded = decode(pipeline, latents, in_half=drawing.decodes_in_half)
    return DrawnBatch(requests, decoded.pictures, decoded.note)


def _texts(
    pipeline: StableDiffusionXLPipeline, requests: Sequence[Request], drawing: Drawing
) -> dict[str, Any]:
    if drawing.reads_emphasis:
        return condition(pipeline, requests, text_shape(pipeline, requests[0]))
    negatives = [request.negative_prompt for request in requests]
    return {
        "prompt": [request.prompt for request in requests],
        "negative_prompt": None if None in negatives else negatives,
    }


def _beginning(
    pipeline: StableDiffusionXLPipeline,
    requests: Sequence[Request],
    size: tuple[int, int],
    start: Start | None,
) -> dict[str, Any]:
    """Return what a pipeline is given to begin with."""
    width, height = size
    if start is None:
        return {"width": width, "height": height}
    latent = encode_start(pipeline, start, size)
    dtype = cast("Any", pipeline).unet.dtype
    return {
        "image": latent.to(dtype).repeat(len(requests), 1, 1, 1),
        "strength": start.denoise,
        "original_size": (height, width),
        "target_size": (height, width),
    }


def _teller(pipeline: Any, on_step: OnStep) -> Callable[..., dict[str, Any]]:
    def tell(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step((step + 1) / pipeline.num_timesteps)
        return tensors

    return tell
