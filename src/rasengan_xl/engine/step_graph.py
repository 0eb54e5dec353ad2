"""A function's kernels, recorded once for each shape of what it is given, then launched at once.

A GPU waits for the host wherever kernels are shorter than their launches; a CUDA graph launches
thousands of them by one call.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rasengan_xl.engine.options import EngineOptions

Tensors = Mapping[str, Tensor]

MOST_SHAPES = 16
"""Recorded; each shape's graph takes host and device memory beyond what all of them share."""


Recording = Callable[[], Tensor]
"""Computes from what the inputs hold now; its result lasts until it is called again."""

Recorder = Callable[[Callable[[], Tensor]], Recording]
"""Records what a function does without its being done."""


def why_no_graph(device: torch.device, options: EngineOptions, dropout: float) -> str | None:
    """Name what stands against recording a step; None: nothing.

    Args:
        device: Where the UNet is.
        options: How it computes.
        dropout: Of the adapter.
    """
    if device.type != "cuda":
        return f"a {device.type} launches no kernels"
    if options.implementation != "fused":
        return "PEFT's layers are computed under autocast, and autograd allocates their gradients"
    if dropout and options.memory == "recompute-all":
        return "computing blocks again sets the generator that adapter.dropout draws from"
    return None


class GpuRecorder:
    """Records CUDA graphs that share their memory, of which only one is replayed at a time."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, function: Callable[[], Tensor]) -> Recording:
        """Record a function that waits for nothing and leaves no tensor behind but its result."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Other threads read ahead, and pin memory, which the strictest mode forbids them.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = function()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


@dataclass(frozen=True, slots=True)
class _Recorded:
    inputs: dict[str, Tensor]
    recording: Recording

    def replay(self, tensors: Tensors) -> Tensor:
        for name, held in self.inputs.items():
            held.copy_(tensors[name], non_blocking=True)
        return self.recording().clone()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """What is done where a function cannot be recorded."""

    keep: Callable[[], Callable[[], None]]
    """Keeps what the function changes; what it returns brings that back."""
    tell: Callable[[str], None]
    """Takes a line for the user."""
    give_up: Callable[[], None]
    """Is called where nothing is recorded any more."""


class Replayed:
    """A function of tensors that is computed, then recorded, then replayed.

    A shape is computed the first time it is seen: kernels are compiled and chosen then, and
    states allocated.  Recording, the second time, computes nothing, so it leaves no trace.
    """

    def __init__(
        self,
        function: Callable[[Tensors], Tensor],
        device: torch.device,
        new_recorder: Callable[[], Recorder],
        fallback: Fallback | None = None,
    ) -> None:
        """Prepare to record.

        Args:
            function: Changes nothing but tensors that outlive it, in place.
            device: What it is to be given lies there, wherever the caller's tensors lie.
            new_recorder: Makes what records, with memory of its own.
            fallback: What to do where that is impossible; None: what is raised then.
        """
        self._function = function
        self._device = device
        self._new_recorder = new_recorder
        self._record = new_recorder()
        self._fallback = fallback
        self._seen: set[str] = set()
        self._recorded: dict[str, _Recorded] = {}
        self._inputs: dict[str, Tensor] = {}
        self._fault: str | None = None

    def __call__(self, tensors: Tensors) -> Tensor:
        """Return what the function returns, in a tensor that stays as it is."""
        shape = _describe(tensors)
        if shape in self._seen and shape not in self._recorded and self._fault is None:
            self._try_to_record(shape, tensors)
        if recorded := self._recorded.get(shape):
            return recorded.replay(tensors)
        self._seen.add(shape)
        return self._compute(tensors)

    def _try_to_record(self, shape: str, tensors: Tensors) -> None:
        if len(self._recorded) == MOST_SHAPES:
            self._fault = f"more than {MOST_SHAPES} sizes of pictures"
            self._tell(f"{self._fault}; the others are launched kernel by kernel")
            return
        inputs = {name: self._hold(name, tensor) for name, tensor in tensors.items()}
        try:
            recording = self._record(lambda: self._function(inputs))
        except RuntimeError as fault:
            if self._fallback is None:
                raise
            self._let_go()
            self._fault = str(fault).partition("\n")[0]
            self._fallback.give_up()
            self._tell(f"given up, kernels are launched one by one from now on: {self._fault}")
        else:
            self._recorded[shape] = _Recorded(inputs, recording)

    def _hold(self, name: str, like: Tensor) -> Tensor:
        """Return where a recording finds an input: one place for all whose input is as large."""
        described = _describe({name: like})
        if described not in self._inputs:
            self._inputs[described] = torch.empty_like(like, device=self._device)
        return self._inputs[described]

    def _compute(self, tensors: Tensors) -> Tensor:
        on_device = {n: t.to(self._device, non_blocking=True) for n, t in tensors.items()}
        if self._fallback is None or not self._recorded:
            return self._function(on_device)
        bring_back = self._fallback.keep()
        try:
            return self._function(on_device)
        except torch.OutOfMemoryError:
            # What is recorded shares its memory, and can be had again without computing.
            self._let_go()
            self._tell("recorded anew, as another size of pictures needed their memory once")
        # Not within the clause above, where the fault would hold what has been allocated.
        bring_back()
        return self._function(on_device)

    def _let_go(self) -> None:
        """Let all recordings go, and with them their memory."""
        self._recorded.clear()
        self._inputs.clear()
        self._fault = None
        self._record = self._new_recorder()

    def _tell(self, what: str) -> None:
        if self._fallback is not None:
            self._fallback.tell(f"CUDA graphs: {what}")


def _describe(tensors: Tensors) -> str:
    return " ".join(f"{name}{tuple(t.shape)}{t.dtype}" for name, t in tensors.items())
