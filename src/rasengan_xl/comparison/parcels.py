"""Folders on their way between two machines that share no disk: packed, cut, unpacked whole."""

import fcntl
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from rasengan_xl.errors import DamagedFileError, UnwritableError

_ARRIVING = ".arriving-"
"""Begins the name of a folder for what has not been put in its place yet."""
_NAMES_FILE = "names.json"
"""Says there which names it is for: what lies in `old-0` goes by the first of them."""

PIECE_BYTES = 16 << 20
"""Small enough to be sent at once, and to be held in memory by either side."""


def pack(root: Path, names: Iterable[str]) -> Iterator[bytes]:
    """Yield the files and folders of those names under a root, where they exist, in pieces."""
    with tempfile.TemporaryFile() as packed:
        with tarfile.open(fileobj=packed, mode="w") as parcel:
            for name in names:
                if (root / name).exists():
                    parcel.add(root / name, name)
        packed.seek(0)
        while piece := packed.read(PIECE_BYTES):
            yield piece


def unpack(packed: IO[bytes], root: Path) -> None:
    """Lay what was packed under a root; nothing can come to lie outside it.

    Raises:
        DamagedFileError: It was cut short, or names a place outside.
        UnwritableError: It cannot be written.
    """
    packed.seek(0)
    try:
        with tarfile.open(fileobj=packed, mode="r") as parcel:
            parcel.extractall(root, filter="data")
    except tarfile.TarError as error:
        raise DamagedFileError(
            f"{root}: what came from the other machine cannot be unpacked: {error}; run it again"
        ) from error
    except OSError as error:
        raise _unwritable(root, error) from error


def unpack_in_place(packed: IO[bytes], root: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Put packed folders in the place of those that lie there: each whole, or not at all.

    What a process that was killed meanwhile has left under the root is put right first.

    Returns:
        The names that were in the parcel: the work may not have come to all of them.

    Raises:
        DamagedFileError: It was cut short, or names a place outside.
        UnwritableError: It cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _alone_in(root) as is_alone:
            for left in root.glob(f"{_ARRIVING}*") if is_alone else ():
                _put_right(left, root)
            # Beside the place, so that it is on the same disk and one renaming brings it there.
            aside = Path(tempfile.mkdtemp(prefix=_ARRIVING, dir=root))
            try:
                unpack(packed, aside / "new")
                return _swap_all(aside, root, names)
            finally:
                shutil.rmtree(aside, ignore_errors=True)  # the next one here tries again
    except OSError as error:
        raise _unwritable(root, error) from error


@contextmanager
def _alone_in(root: Path) -> Generator[bool]:
    """Keep other threads and processes from unpacking there meanwhile; say whether that is so."""
    folder, is_alone = os.open(root, os.O_RDONLY), False
    try:
        with suppress(OSError):  # a network's disk may not lock folders
            fcntl.flock(folder, fcntl.LOCK_EX)
            is_alone = True
        yield is_alone
    finally:
        os.close(folder)  # which gives the lock back, as its process's death does


def _put_right(left: Path, root: Path) -> None:
    """Bring back the folders that were about to be replaced, and remove what had arrived."""
    with suppress(FileNotFoundError, ValueError):  # it had not come so far
        names: list[str] = json.loads((left / _NAMES_FILE).read_text(encoding="utf-8"))
        for number, name in enumerate(names):
            old = left / f"old-{number}"
            if old.exists() and not (root / name).exists():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                old.rename(root / name)
    shutil.rmtree(left)


def _swap_all(aside: Path, root: Path, names: Sequence[str]) -> tuple[str, ...]:
    arrived = [name for name in names if (aside / "new" / name).exists()]
    (aside / _NAMES_FILE).write_text(json.dumps(arrived), encoding="utf-8")
    for number, name in enumerate(arrived):
        _swap(aside / "new" / name, root / name, aside / f"old-{number}")
    return tuple(arrived)


def _swap(arrived: Path, target: Path, old: Path) -> None:
    """Put a folder in the place of another, which comes back if that cannot be done."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        target.rename(old)
    try:
        arrived.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _unwritable(root: Path, error: OSError) -> UnwritableError:
    return UnwritableError(f"{root}: cannot be written: {error.strerror or error}; check the disk")
