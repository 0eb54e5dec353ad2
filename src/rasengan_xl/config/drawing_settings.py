"""What `generate` depends on: prompts, and how pictures of them are drawn."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from rasengan_xl.config.dataset_settings import LATENT_MULTIPLE
from rasengan_xl.config.fields import Settings, UnitInterval

LEAST_SIDE, MOST_SIDE = 32, 8192
MOST_SEEDS = 10_000
DEFAULT_DENOISE = 0.6

MemoryRung = Literal["auto", "full", "low", "lower", "lowest"]


def _read_size(value: Any) -> Any:
    """Read `512` or `768x1024` as width and height in pixels."""
    if isinstance(value, int):
        return value, value
    if not isinstance(value, str):
        return value
    sides = re.fullmatch(r"(\d{1,6})(?:\s*[x*]\s*(\d{1,6}))?", value.strip().lower())
    if sides is None:
        raise ValueError("write a side in pixels such as 1024, or WIDTHxHEIGHT such as 832x1216")
    return int(sides[1]), int(sides[2] or sides[1])


def _read_aspect(value: Any) -> Any:
    """Read `3:2` as width to height."""
    if not isinstance(value, str):
        return value
    sides = re.fullmatch(r"(\d{1,5})\s*[:/x]\s*(\d{1,5})", value.strip())
    if sides is None or "0" in (sides[1].strip("0") or "0", sides[2].strip("0") or "0"):
        raise ValueError("write WIDTH:HEIGHT, such as 3:2")
    return int(sides[1]), int(sides[2])


def _read_seeds(value: Any) -> Any:
    """Read seeds that may be ranges: `0-7`."""
    if isinstance(value, (str, int)):
        value = (value,)
    found: list[Any] = []
    for item in value:
        ends = (
            re.fullmatch(r"(\d{1,19})\s*-\s*(\d{1,19})", item.strip()) if _is_text(item) else None
        )
        if ends is None:
            found.append(item)
            continue
        first, last = int(ends[1]), int(ends[2])
        if not 0 <= last - first < MOST_SEEDS:
            raise ValueError(f"{item} is no range of up to {MOST_SEEDS:,} seeds; write 0-7")
        found += range(first, last + 1)
    return tuple(found)


def _is_text(item: object) -> bool:
    return isinstance(item, str)


def _read_numbers(value: Any) -> Any:
    """Read `0,0.5,1`."""
    return tuple(value.split(",")) if isinstance(value, str) else value


def _check_sides(size: tuple[int, int]) -> tuple[int, int]:
    for side in size:
        if not LEAST_SIDE <= side <= MOST_SIDE or side % LATENT_MULTIPLE:
            raise ValueError(
                f"{side} is no multiple of {LATENT_MULTIPLE} from {LEAST_SIDE} to {MOST_SIDE}"
            )
    return size


Size = Annotated[tuple[int, int], BeforeValidator(_read_size), AfterValidator(_check_sides)]
"""Width and height in pixels."""
Seed = Annotated[NonNegativeInt, Field(lt=2**63)]
Strength = Annotated[FiniteFloat, Field(ge=-10, le=10)]
Strengths = Annotated[tuple[Strength, ...], BeforeValidator(_read_numbers)]


class PromptLine(Settings):
    """What to draw, and what of it differs from the other pictures."""

    prompt: str
    negative_prompt: str | None = None
    """Absent: the one of all pictures."""
    seed: Seed | None = None
    """Absent: the seeds of all pictures, each once."""
    size: Size | None = None
    """Absent: the one of all pictures."""

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _is_writable(cls, text: str | None) -> str | None:
        if text is not None and ("\0" in text or any("\ud800" <= c <= "\udfff" for c in text)):
            raise ValueError("holds a character that no text may hold; remove it")
        return text


class DrawingSettings(Settings):
    """How pictures are drawn."""

    negative_prompt: str | None = None
    """Absent: zeroed text, as SDXL was trained with."""
    seeds: Annotated[
        tuple[Seed, ...], Field(min_length=1, max_length=MOST_SEEDS), BeforeValidator(_read_seeds)
    ] = (0,)
    """Each prompt is drawn once per seed; the seed fixes the first noise."""
    sampler_steps: Annotated[PositiveInt, Field(le=1000)] = 30
    guidance: Annotated[FiniteFloat, Field(ge=0, le=100)] = 5.0
    """Scale of classifier-free guidance; 1 turns it off."""
    guidance_rescale: UnitInterval = 0.0
    """How far guided noise is brought back to its own contrast (arXiv:2305.08891, section 3.4)."""
    scheduler: str | None = None
    """Name of the sampler; absent: the model's own."""
    size: Size | None = None
    """Width and height in pixels; absent: the resolution that was trained at."""
    aspect: Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_read_aspect)] | None = None
    """Width to height: the nearest size that SDXL was trained at."""
    batch_size: PositiveInt = 1
    """Pictures drawn at once."""
    strengths: Annotated[Strengths, Field(min_length=1)] = (1.0,)
    """What the adapters' change of the weights is multiplied by; several: a sweep."""
    weights: Strengths = ()
    """Of several adapters, one each; absent: 1 each."""
    checkpoints: bool = False
    """Draw with every checkpoint that the run has kept."""
    with_base: bool = True
    """Draw with the base alone, too."""
    from_picture: str | None = None
    """File to start from, instead of noise alone."""
    denoise: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the noise that is put on that picture, 0.6 if absent; 1: nothing of it is left."""
    memory: MemoryRung = "auto"
    """How much time is given for less memory."""
    compiled: bool = False
    """Compile the UNet's blocks first: worth it for many pictures of one size."""

    @model_validator(mode="after")
    def _one_way_to_a_size(self) -> Self:
        if self.size is not None and self.aspect is not None:
            raise ValueError("give size or aspect, not both")
        return self

    @model_validator(mode="after")
    def _nothing_is_given_in_vain(self) -> Self:
        if self.denoise is not None and self.from_picture is None:
            raise ValueError("denoise is of a picture to start from: give from_picture, too")
        if self.guidance <= 1 and (self.negative_prompt is not None or self.guidance_rescale):
            raise ValueError(
                f"guidance = {self.guidance:g} draws without guidance, so that negative_prompt and "
                "guidance_rescale do nothing: leave them out, or raise it above 1"
            )
        return self

    @field_validator("strengths")
    @classmethod
    def _strengths_are_distinct(cls, strengths: tuple[float, ...]) -> tuple[float, ...]:
        # As pictures are named: strengths that are written alike would share a file.
        written = [f"{strength:g}" for strength in strengths]
        if twice := [each for each in written if written.count(each) > 1]:
            raise ValueError(f"names {twice[0]} twice")
        return strengths

    @model_validator(mode="after")
    def _one_sweep_at_a_time(self) -> Self:
        if self.checkpoints and len(self.strengths) > 1:
            raise ValueError("sweep strengths or checkpoints, not both: leave one of them out")
        return self
