"""WebDataset tar archives, whose members of one name are a sample: a picture and its words.

They are read here and not by `datasets`: its reader takes the columns of the first five samples
for those of all, so that a later .jpg among .png is lost without a word. And read by its place in
the archive, a picture needs no second copy on the disk.
"""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from itertools import islice
from pathlib import Path

from rasengan_xl.config.dataset_settings import DatasetSettings
from rasengan_xl.errors import DatasetError
from rasengan_xl.file_digests import file_key
from rasengan_xl.sources.candidates import Candidate, Fault, Listing, refuse_to_read
from rasengan_xl.sources.caption_reading import (
    check_captions,
    decode_captions,
    decode_json,
    texts_of,
)
from rasengan_xl.sources.columns import KNOWN_COLUMNS, find_column
from rasengan_xl.sources.folder_captions import PICTURE_SUFFIXES
from rasengan_xl.sources.names import one_line
from rasengan_xl.sources.row_ranges import choose_rows
from rasengan_xl.sources.shards import Shards
from rasengan_xl.sources.tar_members import Member, Sample, read_archive


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
    samples: list[Sample] = []
    ignored = Counter(shards.ignored)
    for archive in shards.files:
        samples.extend(read_archive(archive, settings.source, ignored))
    with_picture = [(sample, _find_picture(sample, settings)) for sample in samples]
    found = [(sample, picture) for sample, picture in with_picture if picture]
    if samples and not found:
        endings = sorted({ending for sample in samples for ending in sample.fields})
        raise DatasetError(
            f"{settings.source}: no member of the archives is a picture (their names end in: "
            f"{', '.join(endings[:10])}): name the ending with --set dataset.image_column=..."
        )
    ignored["samples without a picture"] += len(samples) - len(found)
    ignored["further pictures of a sample"] += sum(
        len(_picture_endings(sample) - {picture}) for sample, picture in found
    )
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


def _find_picture(sample: Sample, settings: DatasetSettings) -> str | None:
    """Return the ending of the member that is the picture."""
    told = settings.image_column
    if told is not None:
        return told.lower() if told.lower() in sample.fields else None
    endings = _picture_endings(sample)
    known = [one for one in KNOWN_COLUMNS["image"] if one in endings]
    return next(iter([*known, *sorted(endings)]), None)


def _picture_endings(sample: Sample) -> set[str]:
    return {ending for ending in sample.fields if f".{ending}" in PICTURE_SUFFIXES}


def _describe(
    sample: Sample,
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
        read=partial(Member.read, member),
    )


def _find_words(sample: Sample, told: str | None) -> tuple[tuple[str, ...] | Fault, str]:
    """Return the captions of a sample and its class."""
    try:
        entries = _read_entries(sample)
        if isinstance(entries, Fault):
            return entries, ""
        return _find_captions(sample, entries, told), _find_class(sample, entries)
    except OSError as fault:
        return Fault("unreadable caption", f"its words cannot be read ({one_line(fault)})"), ""


def _read_entries(sample: Sample) -> dict[str, object] | Fault:
    member = sample.fields.get("json")
    return {} if member is None else decode_json(member.read(), f"{sample.name}.json")


def _find_captions(
    sample: Sample, entries: dict[str, object], told: str | None
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


def _find_class(sample: Sample, entries: dict[str, object]) -> str:
    if member := sample.fields.get("cls"):
        return " ".join(member.read().decode(errors="replace").split())
    cell = entries.get(find_column("class", entries) or "")
    return " ".join(str(cell).split()) if isinstance(cell, str | int) else ""
