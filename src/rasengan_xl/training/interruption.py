"""Stop long work between two records when the user or the machine asks, so that it can be kept."""

import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from rasengan_xl.ranks import ALONE, Ranks
from rasengan_xl.runs.records import StepRecord

Item = TypeVar("Item")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C; and what Slurm, Kaggle and `docker stop` send before they kill."""


class Stopped(KeyboardInterrupt):
    """Work was asked to stop, and has been closed in good order."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number
        """Exit status by which a shell tells of a signal."""


def stop_on_interrupt(
    work: Generator[Item, Any, Any] | Iterator[Item], ranks: Ranks = ALONE
) -> Iterator[Item]:
    """Pass records on; after Ctrl-C or SIGTERM close the work, which saves itself, and raise.

    The processes of a job stop after the same step, whichever of them the signal reached.

    A second signal stops at once, wherever the work is.  Where signals cannot be caught, outside
    the main thread, records are only passed on.

    Raises:
        Stopped: A signal came; the work has been closed in good order.
    """
    if threading.current_thread() is not threading.main_thread():
        yield from work
        return
    with _noting_signals() as received:
        try:
            for item in work:
                if not received:
                    yield item
                if _is_to_stop(item, received, ranks):
                    break
        finally:
            if isinstance(work, Generator):
                work.close()  # saves, with the signals still caught
    if received:
        raise Stopped(received[0])


def _is_to_stop(item: object, received: list[int], ranks: Ranks) -> bool:
    if ranks.count == 1 or not isinstance(item, StepRecord):
        return bool(received)
    # Here all processes are at the same place.  What was told decides, not what has been received:
    # a signal that comes while they talk is known to this process alone, until the next step.
    told = [number for numbers in ranks.gather(list(received)) for number in numbers]
    if told and not received:
        received.append(told[0])
    return bool(told)


@contextmanager
def stopping_at_once() -> Generator[None]:
    """Raise at the first signal, wherever the work in the block is; the next has its usual effect.

    For work that has nothing of its own to save, such as waiting for other processes.

    Raises:
        Stopped: A signal came.
    """

    def stop(number: int) -> None:
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _catching_the_first_signal(stop):
        yield


@contextmanager
def _noting_signals() -> Generator[list[int]]:
    """Note the first signal that comes; after it, the next one has its usual effect."""
    received: list[int] = []
    with _catching_the_first_signal(received.append):
        yield received


@contextmanager
def _catching_the_first_signal(react: Callable[[int], None]) -> Generator[None]:
    def catch(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        react(number)

    before = {number: signal.signal(number, catch) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
