"""How long pictures take, measured batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from PIL import Image

from rasengan_xl.generation.drawing import draw_batch
from rasengan_xl.generation.requests import Drawing, Request
from rasengan_xl.runs.cost import Stopwatch


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedBatch:
    """Pictures that were drawn at once, and how long that took."""

    pictures: list[Image.Image]
    seconds: float


def draw_timed(
    pipeline: StableDiffusionXLPipeline, requests: Sequence[Request], drawing: Drawing
) -> Iterator[TimedBatch]:
    """Draw every request in order, a batch at a time."""
    stopwatch = Stopwatch(pipeline.device)
    for start in range(0, len(requests), drawing.batch_size):
        batch = requests[start : start + drawing.batch_size]
        stopwatch.start()
        pictures = draw_batch(pipeline, batch, drawing).pictures
        yield TimedBatch(pictures=pictures, seconds=stopwatch.lap())
