"""Which of the ways to remember a forward pass fits into a GPU's memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from rasengan_xl.config.engine_settings import MemoryMode
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.planning.engine_choice import settle_engine
from rasengan_xl.planning.gpus import GIB, GPU, gpu_here
from rasengan_xl.planning.model_shape import CUDA, ModelShape, find_shape
from rasengan_xl.planning.simulate import StepNeeds, simulate_step
from rasengan_xl.sdxl.compute import Compute

MARGIN = 0.06
"""Share of the memory that is left free: what a prediction may be wrong by, and fragments."""
FUSED_MODES: tuple[MemoryMode, ...] = ("keep-all", "recompute-feed-forward", "recompute-all")
PEFT_MODES: tuple[MemoryMode, ...] = ("keep-all", "recompute-all")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeNeeds:
    """What a step takes in one memory mode."""

    options: EngineOptions
    needs: StepNeeds

    def card_gib(self, gpu: GPU) -> float:
        """Return what is taken from the card: the allocator's segments, CUDA, and libraries."""
        return taken_gib(self.needs.reserved, gpu)


def taken_gib(reserved: int, gpu: GPU) -> float:
    """Return what is taken from a card where PyTorch's allocator holds so many bytes."""
    return reserved / GIB + gpu.workspace_mib / 1024 + gpu.context_gib


def room_gib(gpu: GPU) -> float:
    """Return how much of a GPU's memory may be planned for."""
    return gpu.memory_gib * (1 - MARGIN)


def candidate_modes(
    settings: RunSettings, shape: ModelShape, gpu: GPU, skip: int = 0
) -> Iterator[ModeNeeds]:
    """Simulate a step in each memory mode that the settings allow, the fastest first.

    Args:
        settings: Of the run.
        shape: Of its base model.
        gpu: Where it is to run.
        skip: How many of them are known already.
    """
    dtype = planned_dtype(settings, gpu)
    asked = settings.engine.memory
    modes = FUSED_MODES if asked == "auto" else (asked,)
    if asked == "auto" and _settle(settings, shape, dtype).implementation == "peft":
        modes = PEFT_MODES
    elif asked == "auto" and not settings.engine.lean_feed_forward:
        modes = PEFT_MODES  # the one between is the leanest feed-forward layer
    for mode in modes[skip:]:
        options = _settle(with_mode(settings, mode), shape, dtype)
        yield ModeNeeds(options=options, needs=simulate_step(settings, shape, options, dtype))


def choose_memory_mode(
    settings: RunSettings,
    compute: Compute,
    *,
    shape: ModelShape | None = None,
    free_gib: float | None = None,
) -> MemoryMode:
    """Return the fastest memory mode that fits, or the leanest if none does.

    Args:
        settings: Of the run; what is not `auto` is kept.
        compute: Where it runs; on a CPU, everything is kept.
        shape: Of the base model; None: looked up.
        free_gib: Memory of the GPU that may be taken, this process's own included; None: what is
            free now.

    Raises:
        RasenganError: The base model, or what was asked for, cannot be had.
    """
    asked = settings.engine.memory
    if asked != "auto":
        return asked
    gpu = gpu_here()
    if compute.device.type != "cuda" or gpu is None:
        return "keep-all"
    if free_gib is None:
        free_gib = torch.cuda.mem_get_info(compute.device)[0] / GIB
        free_gib += torch.cuda.memory_reserved(compute.device) / GIB + gpu.context_gib
    mode: MemoryMode = "keep-all"
    for candidate in candidate_modes(settings, shape or find_shape(settings), gpu):
        mode = candidate.options.memory
        if candidate.card_gib(gpu) <= free_gib * (1 - MARGIN):
            break
    return mode


def planned_dtype(settings: RunSettings, gpu: GPU) -> torch.dtype:
    """Return the precision that a run would compute in on a GPU."""
    named = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    return named.get(settings.compute.precision, gpu.dtype)


def with_mode(settings: RunSettings, mode: MemoryMode) -> RunSettings:
    """Return settings in which the memory mode is settled."""
    engine = settings.engine.model_copy(update={"memory": mode})
    return settings.model_copy(update={"engine": engine})


def _settle(settings: RunSettings, shape: ModelShape, dtype: torch.dtype) -> EngineOptions:
    return settle_engine(settings, shape.skeleton, Compute(CUDA, dtype))
