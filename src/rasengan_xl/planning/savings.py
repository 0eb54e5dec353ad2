"""How much a change would save, by planning the run with it and without."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from rasengan_xl.config.engine_settings import MemoryMode
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.key_values import bytes_of_a_caption, free_bytes
from rasengan_xl.engine.caption_columns import caption_columns
from rasengan_xl.planning.changes import (
    ENCODE_CAPTIONS,
    ENCODE_PICTURES,
    PHASES,
    TRAIN,
    CaptionDisk,
    Change,
    Situation,
    list_changes,
)
from rasengan_xl.planning.engine_choice import settle_engine
from rasengan_xl.planning.gpus import GIB
from rasengan_xl.planning.memory_modes import with_mode
from rasengan_xl.planning.model_shape import ModelShape
from rasengan_xl.planning.phases import simulate_captions, simulate_pictures
from rasengan_xl.planning.simulate import Needs, simulate_held_out, simulate_step
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.full_size import TOKENS

WORTH_NAMING = 0.01
"""Of the memory in use: what saves less is no remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """A change, and the memory that it saves in a phase."""

    change: Change
    saves_gib: float
    """Of what is allocated."""
    reserved: int
    """Bytes that PyTorch's allocator holds with it."""


def savings(
    settings: RunSettings,
    shape: ModelShape,
    compute: Compute,
    phase: str,
    memory: MemoryMode,
    captions: int | None = None,
) -> Iterator[Saving]:
    """Plan one change after another, what costs least first; leave out what saves next to nothing.

    Args:
        settings: Of the run.
        shape: Of its base model.
        compute: Where it runs, and in which precision.
        phase: In which memory lacks.
        memory: The memory mode in use.
        captions: How many the dataset has, if it is known.
    """
    if phase not in PHASES:
        return
    settings = with_mode(settings, memory)
    before = _simulate(settings, shape, compute, phase).peak.total
    situation = Situation(
        settings=settings,
        memory=memory,
        on_cuda=compute.device.type == "cuda",
        dtype=compute.dtype,
        disk=find_disk(settings, shape, compute, captions),
    )
    for change in list_changes(situation, phase):
        changed = change.applied(settings)
        # Whichever 16-bit format `auto` turns out to be, it takes as much.
        dtype = torch.bfloat16 if "compute.precision" in change.values else compute.dtype
        needs = _simulate(changed, shape, Compute(compute.device, dtype), phase)
        saved = before - needs.peak.total
        if saved >= WORTH_NAMING * before:
            yield Saving(change=change, saves_gib=saved / GIB, reserved=needs.reserved)


def find_disk(
    settings: RunSettings, shape: ModelShape, compute: Compute, captions: int | None
) -> CaptionDisk | None:
    """Look what the disk would hold of captions; None where they cannot be kept, or are already."""
    options = settle_engine(settings, shape.skeleton, compute)
    is_possible = (
        options.implementation == "fused"
        and options.batch_text_projections
        and not settings.adapter.decompose
    )
    if options.cache_text_kv or not is_possible:
        return None
    return CaptionDisk(
        bytes_each=bytes_of_a_caption(TOKENS, caption_columns(shape.skeleton), compute.dtype),
        free_bytes=free_bytes(),
        captions=captions,
    )


def _simulate(settings: RunSettings, shape: ModelShape, compute: Compute, phase: str) -> Needs:
    if phase == ENCODE_CAPTIONS:
        return simulate_captions(shape, compute.dtype)
    if phase == ENCODE_PICTURES:
        return simulate_pictures(shape, settings.dataset.resolution)
    options = settle_engine(settings, shape.skeleton, compute)
    simulate = simulate_step if phase == TRAIN else simulate_held_out
    return simulate(settings, shape, options, compute.dtype)
