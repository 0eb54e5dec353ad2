"""See that no two commands work in one folder, and that no run has two workers."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rasengan_xl.cache_folder import cache_folder
from rasengan_xl.comparison.stopping import SECONDS_TO_SAVE
from rasengan_xl.dataset.store import content_key
from rasengan_xl.errors import OutputError

_SECONDS_TO_WAIT = 2 * SECONDS_TO_SAVE
"""For the worker of a command that was killed, which may still be saving."""


@contextmanager
def claim_alone(folder: Path, seconds: float = 0) -> Generator[None]:
    """Hold a folder as long as the block goes on.

    Args:
        folder: Need not exist.
        seconds: How long to wait for whoever holds it.

    Raises:
        OutputError: Another process of this machine works there.
    """
    place = cache_folder() / "locks"
    place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place / f"{content_key(folder.resolve())}.lock")
    try:
        lock.acquire(timeout=seconds)
    except Timeout as error:
        raise OutputError(
            f"{folder}: another process is at work there; wait for it, or stop it"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claim_run(folder: Path) -> Generator[None]:
    """Hold the folder of a run, waiting for a worker that is still saving."""
    with claim_alone(folder, _SECONDS_TO_WAIT):
        yield
