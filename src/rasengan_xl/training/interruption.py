"""Stop long work between two records when the user presses Ctrl-C, so that it can be kept."""

import signal
from collections.abc import Generator, Iterator
from types import FrameType
from typing import Any, TypeVar

Item = TypeVar("Item")


def stop_on_interrupt(work: Generator[Item, Any, Any] | Iterator[Item]) -> Iterator[Item]:
    """Pass records on; after Ctrl-C close the work, which saves itself, and raise.

    A second Ctrl-C stops at once, wherever the work is.

    Raises:
        KeyboardInterrupt: The user pressed Ctrl-C; the work has been closed in good order.
    """
    interrupted = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        for item in work:
            if interrupted:
                break
            yield item
    finally:
        signal.signal(signal.SIGINT, before)
        if isinstance(work, Generator):
            work.close()
    if interrupted:
        raise KeyboardInterrupt
