"""A folder for the work of one process; if that is killed, the next one here removes it."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "rasengan-scratch-"
_LOCK_SUFFIX = ".lock"


class Scratch:
    """An empty folder, which is kept while the process lives, and until it is removed."""

    def __init__(self) -> None:
        """Make it, and first remove what processes that have died left."""
        with _gate():  # a file that is made and not yet locked looks left
            for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*{_LOCK_SUFFIX}"):
                _remove_if_left(lock)
            # The system takes a lock back when its process dies, however it does.
            self._lock = tempfile.NamedTemporaryFile(  # noqa: SIM115
                prefix=_PREFIX, suffix=_LOCK_SUFFIX
            )
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = Path(self._lock.name.removesuffix(_LOCK_SUFFIX))
        self.path.mkdir(mode=0o700)

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        with _gate():  # closing gives the lock back a moment before the file is gone
            self._lock.close()


@contextmanager
def _gate() -> Generator[None]:
    """Let one process of a user at a time make a folder, or remove what was left."""
    place = Path(tempfile.gettempdir(), f"rasengan-gate-{os.getuid()}")
    with place.open("ab") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield


def _remove_if_left(lock: Path) -> None:
    with suppress(OSError), lock.open("rb") as held:  # of others, or removed meanwhile
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its process lives
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink()
