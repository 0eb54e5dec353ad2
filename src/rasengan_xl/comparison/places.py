"""Where the runs of a comparison take place: here, each on a GPU of its own or on shared cores."""

import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Literal, Protocol

import torch

from rasengan_xl.comparison.orders import Order
from rasengan_xl.comparison.process import run_worker
from rasengan_xl.comparison.stopping import Stop
from rasengan_xl.errors import DeviceError
from rasengan_xl.runs.records import StageProgress, StepRecord

Progress = StageProgress | StepRecord

_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
_THREADS = "OMP_NUM_THREADS"


class Place(Protocol):
    """Carries out orders, as many at once as it has slots."""

    @property
    def slots(self) -> int:
        """How many orders can go on at once."""
        ...

    def describe(self) -> str:
        """Say in a few words what the place is."""
        ...

    def carry_out(
        self, order: Order, slot: int, log: Path | None, stop: Stop
    ) -> Generator[Progress]:
        """Have an order carried out, yielding its progress; what it wrote then lies in its root.

        Args:
            order: What to do.
            slot: Which of the slots it takes; one order at a time.
            log: Where to keep what the worker's libraries said, if it failed.
            stop: By which another thread ends it.

        Raises:
            WorkerFailedError: The worker did not come to its end.
        """
        ...

    def close(self) -> None:
        """Leave the place; nothing goes on there any more."""
        ...


class ThisMachine:
    """One run on each GPU, or some side by side on the CPU."""

    def __init__(
        self, jobs: int | None = None, device: Literal["auto", "cuda", "cpu"] = "auto"
    ) -> None:
        """Look which GPUs there are, without using any: a context would take memory from the runs.

        Args:
            jobs: How many runs at once; as many as there are GPUs, or one on a CPU, if not given.
            device: Where the runs compute.

        Raises:
            DeviceError: More runs at once than GPUs.
        """
        self._gpus = [] if device == "cpu" else _visible_gpus()
        if jobs is not None and jobs < 1:
            raise DeviceError(f"--jobs {jobs}: at least one run must go on; give 1 or more")
        if self._gpus and jobs is not None and jobs > len(self._gpus):
            raise DeviceError(
                f"--jobs {jobs}: there are only {len(self._gpus)} GPUs here, and two runs on one "
                f"would spoil each other's figures; give --jobs {len(self._gpus)} or fewer"
            )
        self._slots = jobs or len(self._gpus) or 1

    @property
    def slots(self) -> int:
        """How many orders can go on at once."""
        return self._slots

    def describe(self) -> str:
        """Say in a few words what the place is."""
        if self._gpus:
            return f"this machine, {count(self._slots, 'GPU')}"
        return f"this machine's CPU, {count(self._slots, 'run')} at once"

    def carry_out(
        self, order: Order, slot: int, log: Path | None, stop: Stop
    ) -> Generator[Progress]:
        """Have an order carried out by a process of its own, in the root itself."""
        return run_worker(order, log, self.environment(slot), stop)

    def close(self) -> None:
        """Nothing is left here."""

    def environment(self, slot: int) -> Mapping[str, str]:
        """Name the variables by which the worker in a slot keeps to its share of the machine."""
        if self._gpus:
            return {_VISIBLE_GPUS: self._gpus[slot]}
        if self._slots == 1 or _THREADS in os.environ:  # what the user has set stands
            return {}
        return {_THREADS: str(max(1, _cores() // self._slots))}


def count(number: int, noun: str) -> str:
    """Say how many there are of something."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _visible_gpus() -> list[str]:
    """List the GPUs that this process may use, by the names that `CUDA_VISIBLE_DEVICES` takes."""
    count = torch.cuda.device_count()  # asks NVML; makes no CUDA context
    inherited = os.environ.get(_VISIBLE_GPUS)
    if inherited is None:
        return [str(number) for number in range(count)]
    return [name.strip() for name in inherited.split(",")][:count]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
