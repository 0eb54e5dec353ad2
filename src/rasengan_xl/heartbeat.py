"""Signs of life between the processes of a job, so that one that has died can be named."""

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

SECONDS_BETWEEN_BEATS = 2.0
SECONDS_UNTIL_MISSED = 10.0
"""Without a beat for so long after something has failed, a process counts as dead."""
SECONDS_UNTIL_DEAD = 45.0
"""The same while nothing else has failed: a process may be busy.  Then the job ends, since talking
to the dead may wait for ever: with NCCL, and where a process hangs."""


class Heartbeat:
    """Tells the other processes that this one lives, and listens to them, in a thread."""

    def __init__(self, rank: int, count: int, on_death: Callable[[str], None]) -> None:
        """Begin to beat, by the store that `torchrun` keeps for the job.

        Args:
            rank: Of this process.
            count: Of all.
            on_death: Called, in the thread, with the names of processes long silent.
        """
        self._on_death = on_death
        self._rank = rank
        self._count = count
        self._store = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=SECONDS_UNTIL_DEAD),
        )
        self._store.set(f"rasengan/name/{rank}", f"{socket.gethostname()}, process {os.getpid()}")
        begun = (b"", time.monotonic())
        self._last_heard: dict[int, tuple[bytes, float]] = dict.fromkeys(range(count), begun)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def silent(self, seconds: float) -> list[int]:
        """List the processes that have not been heard of for so long."""
        now = time.monotonic()
        return [rank for rank, (_, at) in self._last_heard.items() if now - at > seconds]

    def name(self, ranks: Sequence[int]) -> str:
        """Say who some processes are: rank, machine and process number."""
        names = [self._store.get(f"rasengan/name/{rank}").decode() for rank in ranks]
        return "; ".join(f"rank {rank} ({name})" for rank, name in zip(ranks, names, strict=True))

    def find_dead(self) -> str | None:
        """Wait until it is known who died, and say it; None if all live."""
        deadline = time.monotonic() + SECONDS_UNTIL_MISSED + 2 * SECONDS_BETWEEN_BEATS
        while time.monotonic() < deadline:
            if dead := self.silent(SECONDS_UNTIL_MISSED):
                return self.name(dead)
            time.sleep(SECONDS_BETWEEN_BEATS / 4)
        return None

    def stop(self) -> None:
        """Beat no more."""
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        others = [rank for rank in range(self._count) if rank != self._rank]
        beats = 0
        while not self._stopped.wait(SECONDS_BETWEEN_BEATS):
            beats += 1
            try:
                self._store.set(f"rasengan/beat/{self._rank}", str(beats))
                for rank in others:
                    self._hear(rank)
            except (RuntimeError, OSError):  # the store has gone, and with it the job
                return
            self._last_heard[self._rank] = (b"", time.monotonic())
            if dead := self.silent(SECONDS_UNTIL_DEAD):
                self._on_death(self.name(dead))

    def _hear(self, rank: int) -> None:
        key = f"rasengan/beat/{rank}"
        if self._store.check([key]):
            beat = self._store.get(key)
            if beat != self._last_heard[rank][0]:
                self._last_heard[rank] = (beat, time.monotonic())
