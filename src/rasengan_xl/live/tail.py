"""The lines that were added to a log since it was last read."""

import os
from pathlib import Path
from typing import IO


class Tail:
    """Reads a growing log, each finished line once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._identity: int | None = None
        self._read_bytes = 0
        self.changed_at: float | None = None
        """When the log was last written, in seconds since the epoch; None: there is none."""

    def read(self) -> tuple[list[bytes], bool]:
        """Return the lines finished since the last call, and whether they start the log anew.

        A run that goes back to a checkpoint rewrites its logs, which then are read from their
        beginning.  A line that is still being written is left for later.
        """
        try:
            with self._file.open("rb") as log:
                status = os.fstat(log.fileno())
                anew = status.st_ino != self._identity or status.st_size < self._read_bytes
                if anew:
                    self._identity, self._read_bytes = status.st_ino, 0
                self.changed_at = status.st_mtime
                return self._read_finished_lines(log), anew
        except OSError:  # not there yet, or being replaced
            anew = self._read_bytes > 0
            self._identity, self._read_bytes, self.changed_at = None, 0, None
            return [], anew

    def _read_finished_lines(self, log: IO[bytes]) -> list[bytes]:
        log.seek(self._read_bytes)
        added = log.read()
        finished = added[: added.rfind(b"\n") + 1]
        self._read_bytes += len(finished)
        return finished.splitlines()
