"""Tar archives by their members: where each lies, and whether the archive is whole.

Python's `tarfile` ends at a damaged header as if the archive were over, so that what follows would
be lost without a word: the end is looked at here.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.names import one_line, printable

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive, by its place."""

    archive: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Return its content."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError(f"{self.archive.name} has become shorter")
        return content


@dataclass(frozen=True, slots=True)
class Sample:
    """Members of one name."""

    name: str
    fields: dict[str, Member | None] = field(default_factory=dict[str, "Member | None"])
    """Members by what follows the first dot of their names, in lower case; those that are no
    regular files have no place."""


def read_archive(archive: Path, source: str, ignored: Counter[str]) -> Iterator[Sample]:
    """Yield the samples of an archive: members that share a name up to its first dot.

    Args:
        archive: Not compressed.
        source: What the user called the dataset.
        ignored: Counts the members that belong to no sample.

    Raises:
        DatasetError: The archive is damaged, cut off, or joined to another one.
    """
    samples: dict[str, Sample] = {}
    where = f"{source}: {printable(archive.name)}"
    try:
        with tarfile.open(archive, "r:") as opened:
            for info in opened:
                if info.isdir():
                    continue
                folder, slash, file = info.name.rpartition("/")
                stem, dot, ending = file.partition(".")
                if not (stem and dot):
                    ignored["hidden files" if dot else "suffixless files"] += 1
                    continue
                name, ending = f"{folder}{slash}{stem}", ending.lower()
                sample = samples.setdefault(name, Sample(printable(name)))
                ignored["members replaced later in their archive"] += ending in sample.fields
                plain = info.isreg() and not info.issparse()
                member = Member(archive, info.offset_data, info.size) if plain else None
                sample.fields[ending] = member
            end = opened.offset
        _check_end(archive, end)
    except (tarfile.TarError, OSError, ValueError) as fault:
        raise DatasetError(
            f"{where}: cannot be read as tar ({one_line(fault)}): pack or fetch it anew"
        ) from fault
    yield from samples.values()


def _check_end(archive: Path, end: int) -> None:
    """See to it that an archive was not cut, nor joined to another one, nor damaged half-way."""
    with archive.open("rb") as file:
        file.seek(end)
        rest = file.read(_BLOCK)
        if len(rest) < _BLOCK or any(rest):
            raise OSError(f"damaged or cut off at byte {end}")
        while block := file.read(1 << 20):
            if any(block):
                raise OSError(f"something follows its end at byte {end}")
