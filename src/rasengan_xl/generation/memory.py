"""How pictures are drawn in less memory, for more time: the rungs of a ladder.

Attention is never cut into pieces: PyTorch's fused kernels keep no scores, so that cutting saved
nothing and doubled the time (docs/experiment-log.md).
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)

from rasengan_xl.config.base_precisions import BasePrecision
from rasengan_xl.config.drawing_settings import MemoryRung
from rasengan_xl.errors import DeviceError
from rasengan_xl.planning.drawing_needs import GIB, ModelSize, needs_of
from rasengan_xl.sdxl.compute import Compute

TILE_PIXELS = 512
"""Largest side of a tile; SDXL's VAE by itself tiles only what is larger than 1024."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySavings:
    """Ways to draw in less memory, each for some time."""

    vae_slicing: bool = False
    """Decode one picture at a time."""
    vae_tiling: bool = False
    """Decode a picture tile by tile."""
    offload: Literal["nothing", "parts", "layers"] = "nothing"
    """What waits in main memory until the GPU needs it."""
    base_precision: BasePrecision = "full"
    """How the UNet's weights are stored."""


_IN_PIECES = MemorySavings(vae_slicing=True, vae_tiling=True)
RUNGS: dict[str, MemorySavings] = {
    "full": MemorySavings(vae_slicing=True),
    "low": replace(_IN_PIECES, offload="parts"),
    "lower": replace(_IN_PIECES, offload="parts", base_precision="nf4"),
    "lowest": replace(_IN_PIECES, offload="layers"),
}
_WORDS = {
    "full": "everything stays on the device",
    "low": "the VAE in pieces, each part on the GPU only while it is needed",
    "lower": "as low, and the UNet in 4 bits, which changes pictures slightly",
    "lowest": "the VAE in pieces, each layer on the GPU only while it is needed: slow",
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A rung, and what the user should know of it; empty: nothing."""

    savings: MemorySavings
    note: str = ""


def choose_savings(
    rung: MemoryRung, compute: Compute, size: ModelSize, pixels_at_once: int
) -> Chosen:
    """Choose how to draw, `auto` by the memory that is free.

    Args:
        rung: What was asked for.
        compute: Device and precision.
        size: Of the model.
        pixels_at_once: Of all pictures of a batch.
    """
    on_cuda = compute.device.type == "cuda"
    if rung != "auto":
        return _climb_down(rung, on_cuda=on_cuda)
    free_gib = free_memory_gib(compute.device)
    if free_gib is None:
        return Chosen(RUNGS["full"])
    needs = needs_of(size, compute, pixels_at_once)
    fitting = next((name for name, gib in needs.items() if gib <= free_gib), "lowest")
    if fitting == "full":
        return Chosen(RUNGS["full"])
    chosen = _climb_down(cast("MemoryRung", fitting), on_cuda=on_cuda)
    told = (
        f"--memory {fitting}: {free_gib:.1f} GiB are free, about {needs['full']:.1f} would be "
        f"needed in full; {chosen.note or _WORDS[fitting]}"
    )
    return Chosen(chosen.savings, told)


def free_memory_gib(device: torch.device) -> float | None:
    """Return how much memory could be taken now; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / GIB
    try:
        with open("/proc/meminfo", encoding="ascii") as told:  # noqa: PTH123 - no file of a user's
            kib = {line.split(":")[0]: int(line.split()[1]) for line in told}["MemAvailable"]
    except (OSError, KeyError, ValueError, IndexError):
        return None
    return kib * 1024 / GIB


def cut_into_pieces(pipeline: StableDiffusionXLPipeline, savings: MemorySavings) -> None:
    """Have the VAE work in pieces."""
    vae: Any = cast("Any", pipeline).vae
    if savings.vae_slicing:
        vae.enable_slicing()
    if savings.vae_tiling:
        vae.enable_tiling()
        own_side: int = vae.tile_sample_min_size
        side = min(own_side, TILE_PIXELS)
        vae.tile_latent_min_size = max(1, vae.tile_latent_min_size * side // own_side)
        vae.tile_sample_min_size = side


@contextmanager
def offloaded(
    pipeline: StableDiffusionXLPipeline, savings: MemorySavings, device: torch.device
) -> Generator[None]:
    """Keep what is not needed just now in main memory, for as long as the block goes on.

    Adapters are put on, and their strengths set, before: what waits layer by layer is out of
    their reach.

    Raises:
        DeviceError: There is no GPU to keep them from.
    """
    if savings.offload == "nothing":
        yield
        return
    if device.type != "cuda":
        raise DeviceError("offloading moves weights to and from a GPU, and there is none")
    if savings.offload == "parts":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)
    try:
        yield
    finally:
        pipeline.maybe_free_model_hooks()
        pipeline.remove_all_hooks()


def _climb_down(rung: MemoryRung, *, on_cuda: bool) -> Chosen:
    """Take a rung, without what only a GPU has."""
    savings = RUNGS[rung]
    if on_cuda:
        return Chosen(savings, "" if rung == "full" else f"--memory {rung}: {_WORDS[rung]}")
    if rung == "full":
        return Chosen(savings)
    in_4_bits = rung != "low"
    unet = ", the UNet is in 4 bits, which changes pictures slightly" if in_4_bits else ""
    return Chosen(
        replace(_IN_PIECES, base_precision="nf4" if in_4_bits else "full"),
        f"--memory {rung}: the VAE works in pieces{unet}; there is no GPU to offload from",
    )
