"""What was once worked out about some content, remembered between processes.

One SQLite file in the cache folder. It only saves time: a file that is damaged, locked or not
writable is replaced or done without, and never changes a result.
"""

import hashlib
import logging
import sqlite3
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock

from rasengan_xl.cache_folder import cache_folder

logger = logging.getLogger(__name__)

VERSION = 1
"""Of the table; a file of another version is replaced."""
_LOCKED_SECONDS = 10
_ROWS_PER_COMMIT = 256


class FactIndex:
    """A table from (kind, key) to some bytes, safe for many threads and processes."""

    def __init__(self, file: Path | None = None) -> None:
        """Open the index, or replace it where it is damaged.

        Args:
            file: Where it lies; in the cache folder if not told.
        """
        self._file = file or cache_folder() / "facts.sqlite"
        self._lock = threading.Lock()
        self._unwritten: dict[bytes, bytes] = {}
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = _open(self._file)
        except (sqlite3.Error, OSError) as fault:
            self._give_up(fault)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def get(self, kind: str, key: str) -> bytes | None:
        """Return what was put, or nothing if it is not known."""
        row_key = _row_key(kind, key)
        with self._lock:
            if row_key in self._unwritten or self._connection is None:
                return self._unwritten.get(row_key)
            try:
                found = self._connection.execute(
                    "SELECT value FROM facts WHERE key = ?", (row_key,)
                ).fetchone()
            except sqlite3.Error as fault:
                self._give_up(fault)
                return None
        return found[0] if found else None

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Remember a fact; it reaches the disk with others, at the latest when this is closed."""
        with self._lock:
            self._unwritten[_row_key(kind, key)] = value
            if len(self._unwritten) >= _ROWS_PER_COMMIT:
                self._write()

    def close(self) -> None:
        """Write what is left and let the file go."""
        with self._lock:
            self._write()
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _write(self) -> None:
        if self._connection is not None and self._unwritten:
            try:
                with self._connection:
                    self._connection.executemany(
                        "INSERT OR REPLACE INTO facts VALUES (?, ?)", self._unwritten.items()
                    )
            except sqlite3.Error as fault:
                self._give_up(fault)
        self._unwritten.clear()

    def _give_up(self, fault: Exception) -> None:
        logger.warning("%s: done without it (%s): contents are read anew", self._file, fault)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if isinstance(fault, sqlite3.DatabaseError) and _is_damage(fault):
            self._file.unlink(missing_ok=True)


def _open(file: Path) -> sqlite3.Connection:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _connect(file)
    except sqlite3.DatabaseError as fault:
        if not _is_damage(fault):
            raise
    # Of several processes that find the damage, the first replaces the file.
    with FileLock(f"{file}.lock"):
        try:
            return _connect(file)
        except sqlite3.DatabaseError as fault:
            logger.warning("%s: damaged (%s), and replaced", file, fault)
            file.unlink()
            return _connect(file)


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=_LOCKED_SECONDS, check_same_thread=False)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        with connection:
            if version != VERSION:
                connection.execute("DROP TABLE IF EXISTS facts")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS facts (key BLOB PRIMARY KEY, value BLOB NOT NULL) "
                "WITHOUT ROWID"
            )
        connection.execute("SELECT key, value FROM facts LIMIT 1").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _is_damage(fault: sqlite3.DatabaseError) -> bool:
    # A lock, a full disk and missing rights are OperationalErrors: the file itself is sound.
    return type(fault) is sqlite3.DatabaseError


def _row_key(kind: str, key: str) -> bytes:
    return hashlib.sha256(f"{kind}\0{key}".encode(errors="surrogateescape")).digest()
