"""Turn running out of memory into one line: in which phase, how much there was, what would help."""

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import torch

from rasengan_xl.config.engine_settings import MemoryMode
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import MemoryExhaustedError
from rasengan_xl.planning.changes import TRAIN
from rasengan_xl.planning.gpus import GIB
from rasengan_xl.planning.model_shape import read_shape
from rasengan_xl.planning.savings import WORTH_NAMING, savings
from rasengan_xl.runs.cost import peak_memory_gib, peak_memory_reserved_gib
from rasengan_xl.runs.records import StageProgress, StepRecord
from rasengan_xl.runs.resuming import CUT_OF_A_STEP, HARMLESS
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import ModelFolder

_SIGNS = (
    "can't allocate memory",  # PyTorch's allocator on a CPU
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_UNITS = {"": 1, "bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
OWN_GIB = 1.0
"""Most that CUDA and its libraries hold in a process beside the allocator's memory."""
_MOST_REMEDIES = 3
_ASKED_FOR = re.compile(r"[Tt]ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One way to need less."""

    action: str
    saves_gib: float
    price: str
    keys: tuple[str, ...] = ()
    """Settings that it changes."""


@dataclass(slots=True, kw_only=True)
class MemoryWatch:
    """Knows what a run is doing, to explain it if memory runs out."""

    settings: RunSettings
    phase: str = "look for the model"
    model: ModelFolder | None = None
    compute: Compute | None = None
    memory: MemoryMode = "keep-all"
    """The memory mode in use."""
    captions: int | None = None
    """How many the dataset has, once it is known."""
    can_resume: bool = False

    def follow(self, record: StageProgress | StepRecord) -> None:
        """Learn from progress which phase the run is in."""
        self.phase = record.stage if isinstance(record, StageProgress) else TRAIN

    @contextmanager
    def explaining(self) -> Generator[None]:
        """Explain it if memory runs out in the block.

        Raises:
            MemoryExhaustedError: It does.
        """
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryExhaustedError(self._explain(str(error))) from error

    def _explain(self, message: str) -> str:
        asked_gib = asked_for_gib(message)
        parts = [f"out of memory in the phase {self.phase!r}"]
        if self.compute is not None:
            parts[0] += f": {_describe_use(self.compute.device, asked_gib)}"
        remedies = self._remedies(asked_gib)
        if remedies:
            parts.append("cheapest remedies: " + ", or ".join(map(self._word, remedies)))
        else:
            parts.append("use a machine with more memory, or end other programs on this one")
        if self.can_resume:
            parts.append("the steps up to the last checkpoint are kept: continue with --resume")
        return "; ".join(parts)

    def _remedies(self, asked_gib: float) -> list[Remedy]:
        """List what helps most cheaply: what costs nothing, then what planning finds."""
        if self.model is None or self.compute is None:
            return []
        device = self.compute.device
        used_gib = peak_memory_gib(device) + asked_gib
        free = _free_remedies(device, used_gib) if device.type == "cuda" else []
        found = savings(
            self.settings,
            read_shape(self.model),
            self.compute,
            self.phase,
            self.memory,
            self.captions,
        )
        planned = (
            Remedy(
                action=saving.change.action,
                saves_gib=saving.saves_gib,
                price=saving.change.price,
                keys=tuple(saving.change.values),
            )
            for saving in found
        )
        return [*free, *islice(planned, max(0, _MOST_REMEDIES - len(free)))]

    def _word(self, remedy: Remedy) -> str:
        told = f"{remedy.action} saves about {_write_size(remedy.saves_gib)} ({remedy.price})"
        in_new_run = self.can_resume and not set(remedy.keys) <= {*HARMLESS, *CUT_OF_A_STEP}
        return f"{told} in a new run" if in_new_run else told


def is_out_of_memory(error: BaseException) -> bool:
    """Tell lack of memory from other faults, which come as the same types."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(sign in str(error) for sign in _SIGNS)


def asked_for_gib(message: str) -> float:
    """Return how much an allocator was asked for when it gave up; 0 if it does not say."""
    found = _ASKED_FOR.search(message)
    return float(found[1]) * _UNITS[found[2]] / GIB if found else 0.0


def _write_size(gib: float) -> str:
    return f"{gib:.2f} GiB" if gib >= 0.1 else f"{gib * 1024:.1f} MiB"


def _describe_use(device: torch.device, asked_gib: float) -> str:
    used_gib = peak_memory_gib(device)
    reserved_gib = peak_memory_reserved_gib(device)
    asked = f", {asked_gib:.2f} more asked for" if asked_gib else ""
    if reserved_gib is None:
        total_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
        return f"{used_gib:.2f} GiB in use of {total_gib:.2f}{asked}"
    total_gib = cast("Any", torch.cuda).get_device_properties(device).total_memory / GIB
    return (
        f"{used_gib:.2f} GiB allocated, {reserved_gib:.2f} reserved of the GPU's "
        f"{total_gib:.2f}{asked}"
    )


def _free_remedies(device: torch.device, used_gib: float) -> list[Remedy]:
    """List what costs nothing, if it would save more than next to nothing."""
    others = Remedy(
        action="end the other programs on this GPU",
        saves_gib=_used_by_others_gib(device),
        price="costs nothing",
    )
    pieces = Remedy(
        action="set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in the environment",
        saves_gib=_unused_gib(device, used_gib),
        price="costs nothing",
    )
    return [r for r in (others, pieces) if r.saves_gib >= WORTH_NAMING * used_gib]


def _unused_gib(device: torch.device, used_gib: float) -> float:
    """Return what the allocator still holds in vain: it gave back whole blocks before it failed."""
    return max(0.0, torch.cuda.memory_reserved(device) / GIB - used_gib)


def _used_by_others_gib(device: torch.device) -> float:
    """Return what other processes hold of a GPU, at least."""
    free, total = torch.cuda.mem_get_info(device)
    return max(0.0, (total - free - torch.cuda.memory_reserved(device)) / GIB - OWN_GIB)
