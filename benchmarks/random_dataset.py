"""Encoded pictures of random content in a store on disk, as large as SDXL's, for benchmarks."""

from dataclasses import dataclass
from pathlib import Path

import torch

from rasengan_xl.dataset.encoded import EncodedCrop, EncodedPicture, EncodedPictures
from rasengan_xl.dataset.key_values import KEY_VALUES
from rasengan_xl.dataset.store import ShardWriter, TensorStore
from rasengan_xl.sdxl.prompts import PromptStates

NO_CAPTION = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large the entries are."""

    resolution: int
    """Of the pictures, in pixels."""
    latent_side: int
    tokens: int
    text_width: int
    pooled_width: int
    dtype: torch.dtype = torch.bfloat16
    """Of captions; latents are float32."""
    key_value_width: int = 0
    """Of the base's keys and values of a token; 0: they are not kept."""


def write_store(folder: Path, pictures: int, captions: int, shape: Shape) -> None:
    """Write as many random pictures and captions, unless they are there.

    One draw is rolled for every entry, since drawing each anew would take longer than writing.
    """
    if (folder / "complete").exists():
        return
    torch.manual_seed(0)
    mean = torch.randn(4, shape.latent_side, shape.latent_side)
    latents = ShardWriter(folder / "latents")
    for row in range(pictures):
        latents.add(f"{row}", {"mean": mean.roll(row), "deviation": mean.abs()})
    latents.close()
    states = torch.randn(shape.tokens, shape.text_width, dtype=shape.dtype)
    prompts = ShardWriter(folder / "prompts")
    for row in range(captions):
        turned = states.roll(row)
        pooled = turned[0, : shape.pooled_width].clone()
        prompts.add(f"{row}", {"states": turned, "pooled": pooled})
    prompts.close()
    if shape.key_value_width:
        _write_key_values(folder / "key_values", captions, shape)
    (folder / "complete").touch()


def _write_key_values(folder: Path, captions: int, shape: Shape) -> None:
    kept = torch.randn(shape.tokens, shape.key_value_width, dtype=shape.dtype)
    writer = ShardWriter(folder)
    for key in (NO_CAPTION, *map(str, range(captions))):
        writer.add(key, {KEY_VALUES: kept.roll(len(key))})
    writer.close()


def open_pictures(folder: Path, count: int, captions: int, shape: Shape) -> EncodedPictures:
    """Open the store as a run does; pictures share captions if there are fewer of them."""
    latents = TensorStore(folder / "latents", ("mean", "deviation"))
    prompts = TensorStore(folder / "prompts", ("states", "pooled"))
    latents.open()
    prompts.open()
    key_values = None
    if shape.key_value_width:
        key_values = TensorStore(folder / "key_values", (KEY_VALUES,))
        key_values.open()
    numbers = (shape.resolution, shape.resolution, 0, 0, shape.resolution, shape.resolution)
    return EncodedPictures(
        pictures=[
            EncodedPicture(
                name=f"{row}.png",
                digest=f"{row:064d}",
                crops=(EncodedCrop(f"{row}", numbers),),
                wordings=(f"{row % captions}",),
            )
            for row in range(count)
        ],
        latents=latents,
        prompts=prompts,
        null_prompt=PromptStates(
            states=torch.zeros(1, shape.tokens, shape.text_width, dtype=shape.dtype),
            pooled=torch.zeros(1, shape.pooled_width, dtype=shape.dtype),
        ),
        scaling_factor=0.13025,
        null_key=NO_CAPTION,
        key_values=key_values,
    )
