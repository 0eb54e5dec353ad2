"""Encoded pictures of random content in a store on disk, as large as SDXL's, for benchmarks."""

from dataclasses import dataclass
from pathlib import Path

import torch

from rasengan_xl.dataset.encoded import EncodedCrop, EncodedPicture, EncodedPictures
from rasengan_xl.dataset.store import ShardWriter, TensorStore
from rasengan_xl.sdxl.prompts import PromptStates


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


def write_store(folder: Path, count: int, shape: Shape) -> None:
    """Write as many random pictures with a caption each, unless they are there."""
    if (folder / "complete").exists():
        return
    latents, prompts = ShardWriter(folder / "latents"), ShardWriter(folder / "prompts")
    for row in range(count):
        mean = torch.randn(4, shape.latent_side, shape.latent_side)
        latents.add(f"{row}", {"mean": mean, "deviation": mean.abs()})
        states = torch.randn(shape.tokens, shape.text_width, dtype=shape.dtype)
        prompts.add(f"{row}", {"states": states, "pooled": states[0, : shape.pooled_width].clone()})
    latents.close()
    prompts.close()
    (folder / "complete").touch()


def open_pictures(folder: Path, count: int, shape: Shape) -> EncodedPictures:
    """Open the store as a run does."""
    latents = TensorStore(folder / "latents", ("mean", "deviation"))
    prompts = TensorStore(folder / "prompts", ("states", "pooled"))
    latents.open()
    prompts.open()
    numbers = (shape.resolution, shape.resolution, 0, 0, shape.resolution, shape.resolution)
    return EncodedPictures(
        pictures=[
            EncodedPicture(
                name=f"{row}.png",
                digest=f"{row:064d}",
                crops=(EncodedCrop(f"{row}", numbers),),
                wordings=(f"{row}",),
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
    )
