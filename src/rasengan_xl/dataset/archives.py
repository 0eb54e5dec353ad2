"""WebDataset tar archives: the members that share a name up to its first dot are one sample.

They are read here and not by `datasets`: its reader takes the columns of the first five samples
for those of all, so that a later .jpg among .png is lost without a word; and it ends, as Python's
`tarfile` does, at a damaged header as if the archive were over. Read by its place in the archive,
a picture needs no second copy on the disk either.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from rasengan_xl.config.dataset_settings import DatasetSettings
from rasengan_xl.dataset.candidates import Candidate, Fault, Listing, refuse_to_read
from rasengan_xl.dataset.caption_reading import (
    check_captions,
    decode_captions,
    decode_json,
    texts_of,
)
from rasengan_xl.dataset.columns import KNOWN_COLUMNS, find_column
from rasengan_xl.dataset.folders import PICTURE_SUFFIXES
from rasengan_xl.dataset.names import one_line, printable
from rasengan_xl.dataset.row_ranges import choose_rows
from rasengan_xl.dataset.shards import Shards
from rasengan_xl.errors import DatasetError
from rasengan_xl.file_digests import file_key

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in an archive, by its place."""

    archive: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError(f"{self.archive.name} has become shorter")
        return content


@dataclass(frozen=True, slots=True)
class _Sample:
    name: str
    fields: dict[str, _Member | None] = field(default_factory=dict[str, "_Member | None"])
    """Members by what follows the first dot of their names, in lower case; those that are no
    regular files have no place."""


def list_archives(shards: Shards, settings: DatasetSettings) -> Listing:
    """List the samples of tar archives that hold a picture.

    A caption is a member `.txt` or `.caption`, or an entry of a member `.json`; a class is a member
    `.cls`, or an entry of the `.json`.

    Args:
        shards: The archives.
        settings: Name the dataset, the rows of its split, and the ending of the pictures' names
            and of the captions', or the captions' key in the `.json`.

    Raises:
        DatasetError: An archive is damaged, or holds no picture.
    """
    samples: list[_Sample] = []
    ignored = Counter(shards.ignored)
    for archive in shards.files:
        samples.extend(_read_archive(archive, settings.source, ignored))
    with_picture = [(sample, _find_picture(sample, settings)) for sample in samples]
    found = [(sample, picture) for sample, picture in with_picture if picture]
    if samples and not found:
        endings = sorted({ending for sample in samples for ending in sample.fields})
        raise DatasetError(
            f"{settings.source}: no member of the archives is a picture (their names end in: "
            f"{', '.join(endings[:10])}): name the ending with --set dataset.image_column=..."
        )
    ignored["samples without a picture"] += len(samples) - len(found)
    rows = choose_rows(settings.split, len(found))
    keys = {archive: file_key(archive) for archive in shards.files}
    return Listing(
        name=settings.source,
        candidates=(
            _describe(sample, picture, settings, keys)
            for sample, picture in islice(found, rows.start, rows.stop)
        ),
        count=len(rows),
        ignored={kind: count for kind, count in sorted(ignored.items()) if count},
    )


def _read_archive(archive: Path, source: str, ignored: Counter[str]) -> Iterator[_Sample]:
    samples: dict[str, _Sample] = {}
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
                name = f"{folder}{slash}{stem}"
                sample = samples.setdefault(name, _Sample(printable(name)))
                ignored["members replaced later in their archive"] += ending in sample.fields
                plain = info.isreg() and not info.issparse()
                member = _Member(archive, info.offset_data, info.size) if plain else None
                sample.fields[ending.lower()] = member
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


def _find_picture(sample: _Sample, settings: DatasetSettings) -> str | None:
    """Return the ending of the member that is the picture."""
    told = settings.image_column
    if told is not None:
        return told.lower() if told.lower() in sample.fields else None
    endings = [one for one in sample.fields if f".{one}" in PICTURE_SUFFIXES]
    known = [one for one in KNOWN_COLUMNS["image"] if one in endings]
    return next(iter([*known, *endings]), None)


def _describe(
    sample: _Sample,
    picture: str,
    settings: DatasetSettings,
    keys: Mapping[Path, str | None],
) -> Candidate:
    name = f"{sample.name}.{picture}"
    member = sample.fields[picture]
    if member is None:
        fault = Fault("no regular file", "is a link or device in its archive: pack the file itself")
        return Candidate(name=name, captions=fault, read=refuse_to_read)
    key = keys[member.archive]
    captions, class_name = _find_words(sample, settings.caption_column)
    return Candidate(
        name=name,
        captions=captions,
        class_name=class_name,
        content_key=key and f"{key}|{member.offset}|{member.size}",
        read=partial(_Member.read, member),
    )


def _find_words(sample: _Sample, told: str | None) -> tuple[tuple[str, ...] | Fault, str]:
    """Return the captions of a sample and its class."""
    try:
        entries = _read_entries(sample)
        if isinstance(entries, Fault):
            return entries, ""
        return _find_captions(sample, entries, told), _find_class(sample, entries)
    except OSError as fault:
        return Fault("unreadable caption", f"its words cannot be read ({one_line(fault)})"), ""


def _read_entries(sample: _Sample) -> dict[str, object] | Fault:
    member = sample.fields.get("json")
    return {} if member is None else decode_json(member.read(), f"{sample.name}.json")


def _find_captions(
    sample: _Sample, entries: dict[str, object], told: str | None
) -> tuple[str, ...] | Fault:
    remedy = f"add a member {sample.name}.txt to the archive"
    ending = find_column("caption", sample.fields) if told is None else told.lower()
    if member := sample.fields.get(ending or ""):
        return decode_captions(member.read(), f"{sample.name}.{ending}", remedy)
    key = find_column("caption", entries) if told is None else told
    texts = texts_of(entries.get(key or ""))
    if texts is None:
        return Fault("unreadable caption", f"'{key}' in {sample.name}.json is no text: mend it")
    return check_captions(texts, remedy)


def _find_class(sample: _Sample, entries: dict[str, object]) -> str:
    if member := sample.fields.get("cls"):
        return " ".join(member.read().decode(errors="replace").split())
    cell = entries.get(find_column("class", entries) or "")
    return " ".join(str(cell).split()) if isinstance(cell, str | int) else ""
