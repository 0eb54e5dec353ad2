"""SHA-256 of files, computed once as long as a file stays as it is."""

import hashlib
import time
from pathlib import Path

from rasengan_xl.fact_index import FactIndex

DIGESTS = "digest of content"
"""Kind of the facts that take a key of some content to its SHA-256."""
_SETTLED_NS = 2_000_000_000
"""Clocks of file systems tick up to every two seconds: a file changed twice within one tick looks
the same, so that one changed just now is not remembered."""


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: It cannot be read.
    """
    key = file_key(path)
    with FactIndex() as index:
        known = index.get(DIGESTS, key) if key else None
        if known is not None:
            return known.hex()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        if key:
            index.put(DIGESTS, key, digest.digest())
    return digest.hexdigest()


def file_key(path: Path) -> str | None:
    """Return what stands for the content of a file until it changes.

    Returns:
        Path, size, times and inode; nothing if the file changed just now, or is not there.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    if time.time_ns() - changed < _SETTLED_NS:
        return None
    parts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return f"{path.absolute()}|{'|'.join(map(str, parts))}"
