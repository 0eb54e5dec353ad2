"""What is said of the pictures of a folder: beside them, in metadata files, or by its name."""

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.candidates import Fault
from rasengan_xl.sources.caption_reading import check_captions, read_caption_file
from rasengan_xl.sources.folder_walk import FoundFile
from rasengan_xl.sources.metadata import METADATA_NAMES, DescribedPicture, read_metadata
from rasengan_xl.sources.names import printable

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"}
    # Not all of these can be read; but none is to be passed over as if it were no picture.
    | {".heic", ".heif", ".avif", ".jxl", ".jp2", ".tga", ".psd", ".svg", ".dng"}
)
CAPTION_SUFFIXES = (".txt", ".caption")
"""Of the files beside a picture that have its stem; the first one wins."""
OUT_OF_PLACE = {
    "special": "is a pipe, socket or device, not a file: remove it",
    "broken": "is a link that leads nowhere: mend or remove it",
}
"""What to say of a `FoundFile` that is no file, by its kind."""


@dataclass(frozen=True, slots=True)
class FolderCaptions:
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
                why = f"its caption {name} {OUT_OF_PLACE[sidecar.kind]}"
                return Fault("unreadable caption", why), class_name
            return read_caption_file(self.folder / sidecar.path, remedy), class_name
        return Fault("no caption", f"no caption: {remedy}"), class_name


def read_all_metadata(
    folder: Path, files: Mapping[str, FoundFile], caption_column: str | None
) -> dict[str, DescribedPicture]:
    """Read every metadata file of a folder.

    Args:
        folder: Where the files lie.
        files: All that are not hidden, by their paths.
        caption_column: Found by its name if not told.

    Returns:
        What is said of each picture, by its path.

    Raises:
        DatasetError: One is malformed, or names a picture that is missing or was named before.
    """
    described: dict[str, DescribedPicture] = {}
    for file in files.values():
        place, _, file_name = file.path.rpartition("/")
        if file_name not in METADATA_NAMES:
            continue
        if file.kind != "file":
            raise DatasetError(f"{printable(str(folder / file.path))}: {OUT_OF_PLACE[file.kind]}")
        for row in read_metadata(folder / file.path, caption_column):
            picture = _locate(row.file_name.replace("\\", "/"), place, folder)
            told = printable(row.file_name)
            if picture not in files or suffix_of(picture) not in PICTURE_SUFFIXES:
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


def find_sidecars(
    pictures: Iterable[str],
    files: Mapping[str, FoundFile],
    described: Mapping[str, DescribedPicture],
) -> dict[str, FoundFile]:
    """Find the text file beside each picture that no metadata describe.

    Names are compared letter by letter: `A.txt` is not for `a.png`.
    """
    by_stem: dict[str, FoundFile] = {}
    for suffix in CAPTION_SUFFIXES:
        for path, file in files.items():
            if suffix_of(path) == suffix:
                by_stem.setdefault(path.removesuffix(PurePosixPath(path).suffix), file)
    stems = ((path, path.removesuffix(PurePosixPath(path).suffix)) for path in pictures)
    return {p: by_stem[stem] for p, stem in stems if stem in by_stem and p not in described}


def suffix_of(path: str) -> str:
    """Return the ending of a name, in lower case, with its dot."""
    return PurePosixPath(path).suffix.lower()
