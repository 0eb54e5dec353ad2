"""The processes of one training job, as `torchrun` starts them; a lone process is a job of one."""

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rasengan_xl.errors import DeviceError, LostRankError, RasenganError, SharedError
from rasengan_xl.heartbeat import Heartbeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Which process this is, of how many."""

    rank: int = 0
    count: int = 1
    node_rank: int = 0
    """Place among the processes of this machine, of which there are `node_count`."""
    node_count: int = 1
    heartbeat: Heartbeat | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and talks to the user."""
        return self.rank == 0

    def add_up(self, values: Tensor) -> None:
        """Replace a tensor by its sum over all processes."""
        if self.count > 1:
            with self._naming_the_dead():
                dist.all_reduce(values)

    def gather(self, value: Any) -> list[Any]:
        """Return what every process passed, in order of rank; values must be JSON."""
        if self.count == 1:
            return [value]
        with self._naming_the_dead():
            return _gather(value, self.count)

    def first(self, value: Any) -> Any:
        """Return what the first process passed; values must be JSON."""
        return self.gather(value if self.is_first else None)[0]

    def share_bytes(self, content: bytes | None) -> bytes | None:
        """Return what the first process passed."""
        length = self.first(None if content is None else len(content))
        if self.count == 1 or length is None:
            return content
        told = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else None
        shared = told if told is not None else torch.empty(length, dtype=torch.uint8)
        with self._naming_the_dead():
            dist.broadcast(shared, src=0)
        return shared.numpy().tobytes()

    @contextmanager
    def together(self) -> Generator[None]:
        """Have every process raise if one of them meets an error that the user can mend.

        Raises:
            SharedError: In all but the first process, which alone tells the user.
        """
        fault: RasenganError | None = None
        try:
            yield
        except RasenganError as error:
            fault = error
        faults: list[str | None] = self.gather(str(fault) if fault else None)
        if self.is_first and fault:
            raise fault
        for rank, told in enumerate(faults):
            if told is not None and self.is_first:
                raise RasenganError(f"rank {rank}: {told}") from fault
            if told is not None:
                raise SharedError(told) from fault

    @contextmanager
    def _naming_the_dead(self) -> Generator[None]:
        """Say which process has died when talking to it fails."""
        try:
            yield
        except RuntimeError as fault:
            dead = self.heartbeat.find_dead() if self.heartbeat else None
            if dead is None:
                raise
            raise LostRankError(_describe_dead(dead)) from fault


ALONE = Ranks()


@contextmanager
def join_ranks() -> Generator[Ranks]:
    """Join the job that the environment names, or be alone.

    On GPUs each process takes one, by its place on its machine; tensors on a GPU travel by NCCL,
    others by gloo.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    node_rank, node_count = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        _take_gpu(node_rank, node_count)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
    rank = dist.get_rank()
    heartbeat = Heartbeat(rank, count, _end_job)
    yield Ranks(
        rank=rank,
        count=count,
        node_rank=node_rank,
        node_count=node_count,
        heartbeat=heartbeat,
    )
    heartbeat.stop()
    dist.destroy_process_group()  # after a failure the others may be gone, and this would wait


def _end_job(dead: str) -> None:
    """End this process although it may be waiting where no exception reaches it."""
    sys.stderr.write(f"error: {_describe_dead(dead)}\n")
    sys.stderr.flush()
    os._exit(1)


def _describe_dead(dead: str) -> str:
    return f"{dead} has died or hangs: see what it said last; mend that, and go on with --resume"


def _gather(value: Any, count: int) -> list[Any]:
    own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    lengths = [torch.zeros(1, dtype=torch.long) for _ in range(count)]
    dist.all_gather(lengths, torch.tensor([len(own)]))
    longest = max(int(length) for length in lengths)
    padded = [torch.zeros(longest, dtype=torch.uint8) for _ in range(count)]
    dist.all_gather(padded, torch.nn.functional.pad(own, (0, longest - len(own))))
    return [
        json.loads(text[: int(length)].numpy().tobytes())
        for text, length in zip(padded, lengths, strict=True)
    ]


def _take_gpu(node_rank: int, node_count: int) -> None:
    if node_count > torch.cuda.device_count():
        raise DeviceError(
            f"torchrun --nproc-per-node {node_count}: there are {torch.cuda.device_count()} "
            "GPUs here; start one process for each"
        )
    torch.cuda.set_device(node_rank)
