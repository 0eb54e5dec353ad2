"""A folder of picture files, with captions beside them, in metadata files or in folder names."""

from collections import Counter
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath

from rasengan_xl.errors import DatasetError
from rasengan_xl.file_digests import file_key
from rasengan_xl.sources.candidates import Candidate, Fault, Listing, refuse_to_read
from rasengan_xl.sources.folder_captions import (
    CAPTION_SUFFIXES,
    OUT_OF_PLACE,
    PICTURE_SUFFIXES,
    FolderCaptions,
    find_sidecars,
    read_all_metadata,
    suffix_of,
)
from rasengan_xl.sources.folder_walk import FolderContent, FoundFile, walk_folder
from rasengan_xl.sources.metadata import METADATA_NAMES
from rasengan_xl.sources.names import printable
from rasengan_xl.sources.picture_files import read_picture_file


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
    pictures = [path for path in files if suffix_of(path) in PICTURE_SUFFIXES]
    words = FolderCaptions(folder)
    if not by_folder_name:
        described = read_all_metadata(folder, files, caption_column)
        words = FolderCaptions(folder, described, find_sidecars(pictures, files, described))
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


def _describe(file: FoundFile, words: FolderCaptions) -> Candidate:
    name = printable(file.path)
    if file.kind != "file":
        fault = Fault("no regular file", OUT_OF_PLACE[file.kind])
        return Candidate(name=name, captions=fault, read=refuse_to_read)
    captions, class_name = words.find(PurePosixPath(file.path))
    path = words.folder / file.path
    return Candidate(
        name=name,
        captions=captions,
        class_name=class_name,
        content_key=file_key(path),
        read=partial(read_picture_file, path),
    )


def _closed_folder(path: str, why: str) -> Candidate:
    fault = Fault("unreadable folder", f"cannot be listed ({why}): allow reading, or move it away")
    return Candidate(name=printable(path), captions=fault, read=refuse_to_read)


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
        elif suffix_of(name) in CAPTION_SUFFIXES:
            counts["unused caption files"] += 1
        else:
            counts[f"{printable(suffix_of(name)) or 'suffixless'} files"] += 1
    counts["links to folders that are listed anyway"] += content.repeated_links
    return {reason: count for reason, count in sorted(counts.items()) if count}
