"""Folders on their way between two machines that share no disk: packed, cut, unpacked whole."""

import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from rasengan_xl.errors import DamagedFileError, UnwritableError

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
        raise UnwritableError(
            f"{root}: cannot be written: {error.strerror or error}; check the disk"
        ) from error


def unpack_in_place(packed: IO[bytes], root: Path, names: Iterable[str]) -> None:
    """Put packed folders in the place of those that lie there: each whole, or not at all.

    Raises:
        DamagedFileError: It was cut short, or names a place outside.
        UnwritableError: It cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    # Beside the place, so that it is on the same disk and one renaming brings it there.
    aside = Path(tempfile.mkdtemp(prefix=".arriving-", dir=root))
    try:
        unpack(packed, aside / "new")
        for number, name in enumerate(names):
            if (aside / "new" / name).exists():  # else the work did not come so far
                _swap(aside / "new" / name, root / name, aside / f"old-{number}")
    finally:
        shutil.rmtree(aside)


def _swap(arrived: Path, target: Path, old: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        target.rename(old)
    arrived.rename(target)
