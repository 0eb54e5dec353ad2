"""A folder of picture files, with captions beside them or in metadata files."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rasengan_xl.dataset.metadata import METADATA_NAMES, read_metadata, read_text
from rasengan_xl.dataset.pictures import Candidate, Source, take_pictures
from rasengan_xl.errors import DatasetError

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
)  # fmt: skip
CAPTION_SUFFIXES = (".txt", ".caption")
"""Of the files beside a picture that have its stem; the first one wins."""


def read_folder(folder: Path, *, name: str, caption_column: str | None = None) -> Source:
    """Read a folder and its sub-folders in the order of their paths.

    A caption comes from a metadata.jsonl or metadata.csv in the picture's folder or above it
    that names the picture, else from the text file beside the picture.

    Args:
        folder: Where the pictures lie.
        name: What the user called the folder.
        caption_column: Column of the metadata files; found by its name if not told.

    Raises:
        DatasetError: A picture lacks a caption or is unreadable, metadata name a picture that
            is missing or was already named, or there is no picture at all.
    """
    found = sorted((file for file in folder.rglob("*") if file.is_file()), key=Path.as_posix)
    files = [file for file in found if not _is_hidden(file.relative_to(folder))]
    pictures = [file for file in files if file.suffix.lower() in PICTURE_SUFFIXES]
    metadata = [file for file in files if file.name in METADATA_NAMES]
    captions = _captions_from_metadata(metadata, frozenset(pictures), caption_column)
    sidecars = _find_sidecars(pictures, files)
    used = {*pictures, *metadata}
    candidates: list[Candidate] = []
    for picture in pictures:
        sidecar = sidecars.get(picture)
        if picture not in captions and sidecar is not None:
            captions[picture] = read_text(sidecar)
            used.add(sidecar)
        candidates.append(_candidate(picture, folder, captions.get(picture)))
    ignored = _count_ignored(found, used, folder)
    if not candidates:
        counts = ", ".join(f"{count} {reason}" for reason, count in ignored.items()) or "nothing"
        raise DatasetError(
            f"{name}: no pictures in this folder (found: {counts}): "
            f"name one with {', '.join(sorted(PICTURE_SUFFIXES))} or .parquet files"
        )
    return Source(
        name=name, revision=None, pictures=take_pictures(candidates, name), ignored=ignored
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _captions_from_metadata(
    metadata: Sequence[Path], pictures: frozenset[Path], caption_column: str | None
) -> dict[Path, str | None]:
    captions: dict[Path, str | None] = {}
    for file in metadata:
        for where, file_name, caption in read_metadata(file, caption_column):
            picture = file.parent / file_name.replace("\\", "/")
            if picture not in pictures:
                raise DatasetError(
                    f"{where}: no picture {file_name} in {file.parent}: "
                    "add the picture or remove the line"
                )
            if picture in captions:
                raise DatasetError(f"{where}: {file_name} is named a second time: keep one line")
            captions[picture] = caption
    return captions


def _find_sidecars(pictures: Sequence[Path], files: Sequence[Path]) -> dict[Path, Path]:
    by_stem: dict[Path, Path] = {}
    for suffix in CAPTION_SUFFIXES:
        for file in files:
            if file.suffix.lower() == suffix:
                by_stem.setdefault(file.with_suffix(""), file)
    stems = ((picture, picture.with_suffix("")) for picture in pictures)
    return {picture: by_stem[stem] for picture, stem in stems if stem in by_stem}


def _candidate(picture: Path, folder: Path, caption: str | None) -> Candidate:
    return Candidate(
        name=picture.relative_to(folder).as_posix(),
        caption=caption,
        caption_remedy=f"put one into {picture.stem}.txt or metadata.jsonl",
        read=partial(Path.read_bytes, picture),
    )


def _count_ignored(found: Sequence[Path], used: set[Path], folder: Path) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for file in found:
        if _is_hidden(file.relative_to(folder)):
            counts["hidden files"] += 1
        elif file in used:
            continue
        elif file.suffix.lower() in CAPTION_SUFFIXES:
            counts["unused caption files"] += 1
        else:
            counts[f"{file.suffix.lower() or 'suffixless'} files"] += 1
    return dict(sorted(counts.items()))
