"""Which pictures are drawn, how, and which of them at once."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

from rasengan_xl.config.comparison_settings import PictureSettings
from rasengan_xl.config.drawing_settings import DrawingSettings, PromptLine


@dataclass(frozen=True, slots=True)
class Request:
    """One picture to draw."""

    prompt: str
    seed: int
    """Fixes the first noise: the same as `torch.Generator().manual_seed(seed)` in diffusers."""
    negative_prompt: str | None = None
    """Absent: zeroed text, as SDXL was trained with."""
    size: tuple[int, int] | None = None
    """Width and height in pixels; absent: as all are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How pictures are drawn."""

    size: tuple[int, int]
    """Width and height in pixels."""
    sampler_steps: int
    guidance: float
    batch_size: int
    guidance_rescale: float = 0.0
    reads_emphasis: bool = False
    """Read emphasis, and what is beyond the tokenizers' limit, which is cut off otherwise."""
    decodes_in_half: bool = False
    """Decode in float16, with float32 to fall back on."""


def list_requests(settings: PictureSettings) -> list[Request]:
    """List every prompt with every seed of a comparison."""
    return [
        Request(prompt, seed, settings.negative_prompt)
        for prompt in settings.prompts
        for seed in settings.seeds
    ]


def list_wanted(lines: Sequence[PromptLine], settings: DrawingSettings) -> list[Request]:
    """List every prompt with every seed, or with its own."""
    return [
        Request(
            line.prompt,
            seed,
            settings.negative_prompt if line.negative_prompt is None else line.negative_prompt,
            line.size,
        )
        for line in lines
        for seed in (settings.seeds if line.seed is None else (line.seed,))
    ]


def describe_drawing(settings: PictureSettings, side: int) -> Drawing:
    """Take from a comparison's settings how pictures are drawn, square, `side` in pixels."""
    return Drawing(
        size=(side, side),
        sampler_steps=settings.sampler_steps,
        guidance=settings.guidance,
        batch_size=settings.batch_size,
    )


def part_into_batches(
    requests: Sequence[Request], most: int, alike: Callable[[Request], Hashable]
) -> Iterator[list[Request]]:
    """Part requests, in order, into runs of at most `most` that are alike in what batches share."""
    batch: list[Request] = []
    for request in requests:
        if batch and (len(batch) == most or alike(request) != alike(batch[0])):
            yield batch
            batch = []
        batch.append(request)
    if batch:
        yield batch
