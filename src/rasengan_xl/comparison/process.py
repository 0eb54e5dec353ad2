"""Start a worker, pass its progress on, and say how it ended."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path

from rasengan_xl.comparison.orders import Order, decode_line
from rasengan_xl.errors import USER_ERROR_STATUS
from rasengan_xl.runs.records import StageProgress, StepRecord

_LONGEST_REASON = 300
_SECONDS_TO_SAVE = 20.0
"""Which a worker has when it is stopped."""


class WorkerFailedError(Exception):
    """A worker ended before its work did; the message says why, in one line."""

    def __init__(self, reason: str, *, by_user: bool) -> None:
        super().__init__(reason)
        self.by_user = by_user
        """Whether the user can mend it: the reason then names what and how."""


def run_worker(order: Order, log: Path | None = None) -> Generator[StageProgress | StepRecord]:
    """Have an order carried out in a process of its own, yielding its progress.

    Args:
        order: What to do.
        log: Where to keep what the worker's libraries said, if it says anything.

    Raises:
        WorkerFailedError: The worker did not come to its end.
    """
    command = (sys.executable, "-m", "rasengan_xl.comparison.worker")
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # a Ctrl-C reaches the worker once, through `_stop`
        )
        assert process.stdin is not None
        assert process.stdout is not None
        mistake = ""
        try:
            with suppress(BrokenPipeError):  # it died at once: its status will tell
                process.stdin.write(order.model_dump_json())
                process.stdin.close()
            for line in process.stdout:
                answer = decode_line(line)
                if isinstance(answer, str):
                    mistake = answer
                else:
                    yield answer
            process.wait()
        finally:
            with closing(process.stdout):
                _stop(process)
            errors.seek(0)
            said = errors.read()
            if log is not None and said and process.returncode:
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text(said, encoding="utf-8")
    if process.returncode == USER_ERROR_STATUS and mistake:
        raise WorkerFailedError(mistake, by_user=True)
    if process.returncode:
        raise WorkerFailedError(_last_words(said, process.returncode), by_user=False)


def _stop(process: subprocess.Popen[str]) -> None:
    """End a worker whose progress nobody reads any more, giving it time to save."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_SAVE)
    finally:  # a second Ctrl-C breaks off the waiting
        process.kill()  # does nothing to one that has ended
        process.wait()


def _last_words(said: str, status: int) -> str:
    if status < 0:
        killed = f"the process was killed by signal {-status}"
        return f"{killed} (out of memory?)" if status == -9 else killed
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines[-1] if lines else f"the process ended with status {status}")[:_LONGEST_REASON]
