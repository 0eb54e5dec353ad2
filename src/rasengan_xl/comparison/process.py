"""Start a worker, pass its progress on, and say how it ended."""

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from rasengan_xl.comparison.orders import Order, decode_line
from rasengan_xl.comparison.stopping import SECONDS_BETWEEN_LOOKS, SECONDS_TO_SAVE, Stop
from rasengan_xl.errors import USER_ERROR_STATUS
from rasengan_xl.runs.records import StageProgress, StepRecord

_LONGEST_REASON = 300
_STOPPED_STATUSES = {128 + signal.SIGINT: signal.SIGINT, 128 + signal.SIGTERM: signal.SIGTERM}
"""Of a worker that a signal stopped and that saved itself."""


class WorkerFailedError(Exception):
    """A worker ended before its work did; the message says why, in one line."""

    def __init__(self, reason: str, *, by_user: bool, lost: bool = False) -> None:
        super().__init__(reason)
        self.by_user = by_user
        """Whether the user can mend it: the reason then names what and how."""
        self.lost = lost
        """Whether something outside ended it, so that it may well succeed another time."""


def run_worker(
    order: Order,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stop: Stop | None = None,
) -> Generator[StageProgress | StepRecord]:
    """Have an order carried out in a process of its own, yielding its progress.

    Closing the iterator stops the worker, with time to save.

    Args:
        order: What to do.
        log: Where to keep what the worker's libraries said, if it says anything.
        environment: Variables that it gets besides, or instead of, those of this process.
        stop: By which another thread can have it stopped; it then counts as lost.

    Raises:
        WorkerFailedError: The worker did not come to its end.
    """
    command = (sys.executable, "-m", "rasengan_xl.comparison")
    stop = stop or Stop()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # a Ctrl-C reaches the worker once, through `_stop`
        )
        assert process.stdin is not None
        assert process.stdout is not None
        mistake = ""
        try:
            with suppress(BrokenPipeError):  # it died at once: its status will tell
                process.stdin.write(order.model_dump_json().encode())
                process.stdin.close()
            for line in _lines(process.stdout, stop):
                answer = decode_line(line)
                if isinstance(answer, str):
                    mistake = answer
                else:
                    yield answer
            _wait(process, stop.asked.is_set)
        finally:
            # It dies when nobody can read its answers: so it is stopped first.
            with closing(process.stdout):
                _stop(process, stop)
            errors.seek(0)
            said = errors.read().decode(errors="replace")
            if log is not None and said and process.returncode:
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text(said, encoding="utf-8")
    if process.returncode:
        raise _explain(process.returncode, mistake, said)


def _lines(answers: IO[bytes], stop: Stop) -> Iterator[str]:
    """Read what comes line by line, until the end or until it shall stop."""
    unfinished = b""
    with selectors.DefaultSelector() as ready:
        ready.register(answers, selectors.EVENT_READ)
        while not stop.asked.is_set():
            if not ready.select(SECONDS_BETWEEN_LOOKS):
                continue
            read = os.read(answers.fileno(), 1 << 16)
            *lines, unfinished = (unfinished + read).split(b"\n")
            yield from (line.decode() for line in lines)
            if not read:  # a line that was cut short by its end is no answer
                return


def _wait(process: subprocess.Popen[bytes], broken_off: Callable[[], bool]) -> None:
    """Wait for the end of a process, looking now and then whether to go on waiting."""
    while process.poll() is None and not broken_off():
        with suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_BETWEEN_LOOKS)


def _stop(process: subprocess.Popen[bytes], stop: Stop) -> None:
    """End a worker whose progress nobody reads any more, giving it time to save."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + SECONDS_TO_SAVE
    try:
        _wait(process, lambda: stop.hurried.is_set() or time.monotonic() > deadline)
    finally:  # a second Ctrl-C breaks off the waiting
        process.kill()  # does nothing to one that has ended
        process.wait()


def _explain(status: int, mistake: str, said: str) -> WorkerFailedError:
    if status == USER_ERROR_STATUS and mistake:
        return WorkerFailedError(mistake, by_user=True)
    if number := _STOPPED_STATUSES.get(status):
        reason = f"the process was stopped by signal {int(number)}"
        return WorkerFailedError(reason, by_user=False, lost=True)
    if status < 0:
        killed = f"the process was killed by signal {-status}"
        reason = f"{killed} (out of memory?)" if status == -signal.SIGKILL else killed
        return WorkerFailedError(reason, by_user=False, lost=True)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else f"the process ended with status {status}"
    return WorkerFailedError(last[:_LONGEST_REASON], by_user=False)
