"""A folder of picture files, with captions beside them, in metadata files or in folder names."""

import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath

from rasengan_xl.dataset.candidates import Candidate, Fault, Listing, refuse_to_read
from rasengan_xl.dataset.caption_reading import check_captions, read_caption_file
from rasengan_xl.dataset.folder_walk import FolderContent, FoundFile, walk_folder
from rasengan_xl.dataset.metadata import METADATA_NAMES, DescribedPicture, read_metadata
from rasengan_xl.dataset.names import printable
from rasengan_xl.errors import DatasetError
from rasengan_xl.file_digests import file_key

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"}
    # Not all of these can be read; but none is to be passed over as if it were no picture.
    | {".heic", ".heif", ".avif", ".jxl", ".jp2", ".tga", ".psd", ".svg", ".dng"}
)
CAPTION_SUFFIXES = (".txt", ".caption")
"""Of the files beside a picture that have its stem; the first one wins."""
_OUT_OF_PLACE = {
    "special": "is a pipe, socket or device, not a file: remove it",
    "broken": "is a link that leads nowhere: mend or remove it",
}


def list_folder(
    folder: Path, *, name: str, caption_column: str | None = None, by_folder_name: bool = False
) -> Listing:
    """List the pictures of a folder and its sub-folders in the order of their paths.

    Captions come from a metadata.jsonl or metadata.csv in the picture's folder or above it that
    names the picture, else from the lines of the text file beside the picture.

    Args:
        folder: Where the pictures lie.
        name: What the user called the folder.
        caption_column: Column of the metadata files; found by its name if not told.
        by_folder_name: Whether the name of a picture's folder is its caption, and nothing else.

    Raises:
        DatasetError: Metadata are malformed, or name a picture that is missing or was already
            named; or there is no picture at all.
    """
    content = walk_folder(folder)
    files = {file.path: file for file in content.files if not file.hidden}
    pictures = [path for path in files if _suffix(path) in PICTURE_SUFFIXES]
    words = _Words(folder)
    if not by_folder_name:
        described = _read_all_metadata(folder, files, caption_column)
        words = _Words(folder, described, _find_sidecars(pictures, files, described))
    read = {*pictures, *(file.path for file in words.sidecars.values())}
    ignored = _count_ignored(content, read, metadata_too=by_folder_name)
    if not pictures and not content.closed_folders:
        counts = ", ".join(f"{count} {reason}" for reason, count in ignored.items()) or "nothing"
        raise DatasetError(
            f"{name}: no pictures in this folder (found: {counts}): "
            f"name one with {', '.join(sorted(PICTURE_SUFFIXES))} files or with shards"
        )
    closed = content.closed_folders.items()
    return Listing(
        name=name,
        candidates=chain(
            (_describe(files[path], words) for path in pictures),
            [_closed_folder(path, why) for path, why in closed],
        ),
        count=len(pictures) + len(closed),
        ignored=ignored,
    )


@dataclass(frozen=True, slots=True)
class _Words:
    """Where the words about each picture stand; without any, the folder's name is the caption."""

    folder: Path
    described: Mapping[str, DescribedPicture] | None = None
    sidecars: Mapping[str, FoundFile] = field(default_factory=dict[str, FoundFile])

    def find(self, picture: PurePosixPath) -> tuple[tuple[str, ...] | Fault, str]:
        """Return the captions of a picture and its class."""
        class_name = printable(picture.parent.name)
        if self.described is None:
            told = class_name or printable(self.folder.resolve().name)
            name = told.replace("_", " ").replace("-", " ")
            return check_captions([name], "give its folder a name"), class_name
        if row := self.described.get(str(picture)):
            return row.captions, class_name if row.class_name is None else row.class_name
        remedy = f"put one into {printable(picture.stem)}.txt or metadata.jsonl"
        if sidecar := self.sidecars.get(str(picture)):
            if sidecar.kind != "file":  # To open a pipe is to wait for ever.
                name = printable(posixpath.basename(sidecar.path))
                why = f"its caption {name} {_OUT_OF_PLACE[sidecar.kind]}"
                return Fault("unreadable caption", why), class_name
            return read_caption_file(self.folder / sidecar.path, remedy), class_name
        return Fault("no caption", f"no caption: {remedy}"), class_name


def _describe(file: FoundFile, words: _Words) -> Candidate:
    name = printable(file.path)
    if file.kind != "file":
        fault = Fault("no regular file", _OUT_OF_PLACE[file.kind])
        return Candidate(name=name, captions=fault, read=refuse_to_read)
    captions, class_name = words.find(PurePosixPath(file.path))
    path = words.folder / file.path
    return Candidate(
        name=name,
        captions=captions,
        class_name=class_name,
        content_key=file_key(path),
        read=partial(Path.read_bytes, path),
    )


def _closed_folder(path: str, why: str) -> Candidate:
    fault = Fault("unreadable folder", f"cannot be listed ({why}): allow reading, or move it away")
    return Candidate(name=printable(path), captions=fault, read=refuse_to_read)


def _read_all_metadata(
    folder: Path, files: Mapping[str, FoundFile], caption_column: str | None
) -> dict[str, DescribedPicture]:
    described: dict[str, DescribedPicture] = {}
    for file in files.values():
        place, _, file_name = file.path.rpartition("/")
        if file_name not in METADATA_NAMES:
            continue
        if file.kind != "file":
            raise DatasetError(f"{printable(str(folder / file.path))}: {_OUT_OF_PLACE[file.kind]}")
        for row in read_metadata(folder / file.path, caption_column):
            picture = _locate(row.file_name.replace("\\", "/"), place, folder)
            told = printable(row.file_name)
            if picture not in files or _suffix(picture) not in PICTURE_SUFFIXES:
                raise DatasetError(
                    f"{row.where}: no picture {told} in {printable(str(folder / place))}: "
                    "add the picture or remove the line"
                )
            if picture in described:
                raise DatasetError(f"{row.where}: {told} is named a second time: keep one line")
            described[picture] = row
    return described


def _locate(file_name: str, place: str, folder: Path) -> str:
    if file_name.startswith("/"):
        return posixpath.relpath(file_name, folder.absolute().as_posix())
    return posixpath.normpath(posixpath.join(place, file_name))


def _find_sidecars(
    pictures: Iterable[str],
    files: Mapping[str, FoundFile],
    described: Mapping[str, DescribedPicture],
) -> dict[str, FoundFile]:
    by_stem: dict[str, FoundFile] = {}
    for suffix in CAPTION_SUFFIXES:
        for path, file in files.items():
            if _suffix(path) == suffix:
                by_stem.setdefault(path.removesuffix(PurePosixPath(path).suffix), file)
    stems = ((path, path.removesuffix(PurePosixPath(path).suffix)) for path in pictures)
    return {p: by_stem[stem] for p, stem in stems if stem in by_stem and p not in described}


def _count_ignored(content: FolderContent, read: set[str], *, metadata_too: bool) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for file in content.files:
        name = file.path.rpartition("/")[2]
        if file.hidden:
            counts["hidden files"] += 1
        elif file.path in read:
            continue
        elif name in METADATA_NAMES:
            counts["unused metadata files"] += metadata_too
        elif _suffix(name) in CAPTION_SUFFIXES:
            counts["unused caption files"] += 1
        else:
            counts[f"{printable(_suffix(name)) or 'suffixless'} files"] += 1
    counts["links to folders that are listed anyway"] += content.repeated_links
    return {reason: count for reason, count in sorted(counts.items()) if count}


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()
