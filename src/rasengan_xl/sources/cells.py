"""What stands in one cell of a table: a picture, its captions, its class."""

from pathlib import Path
from typing import Any, cast

import datasets
import fsspec

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.candidates import Fault
from rasengan_xl.sources.caption_reading import check_captions, texts_of
from rasengan_xl.sources.names import one_line, printable
from rasengan_xl.sources.picture_files import read_picture_file

_open_address = cast("Any", fsspec.open)  # the library carries no types


def read_picture_cell(cell: object, folder: Path | None) -> bytes:
    """Return the encoded picture in a cell, or in the file that the cell names.

    Args:
        cell: Bytes, a path or address, or both in a dictionary, as `datasets` stores images.
        folder: What relative paths start from.

    Raises:
        OSError: The cell is empty, or its file cannot be read.
    """
    if isinstance(cell, dict):
        parts = cast("dict[str, object]", cell)
        cell = parts.get("bytes") or parts.get("path")
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, str) and "://" in cell:
        return _fetch(cell)
    if isinstance(cell, str) and cell and "\0" not in cell:
        return read_picture_file(Path(folder or "", cell))
    raise OSError("the cell holds no picture and names no file")


def _fetch(address: str) -> bytes:
    try:
        with _open_address(address, "rb") as file:
            return file.read()
    except Exception as fault:  # Each protocol's library has its own.
        raise OSError(f"{printable(address)}: {one_line(fault)}") from fault


def may_hold_pictures(feature: object) -> bool:
    """Tell whether a column of this kind can be read by `read_picture_cell`."""
    if isinstance(feature, datasets.Image):
        return True
    if isinstance(feature, datasets.Value):
        return feature.dtype in {"binary", "large_binary", "string", "large_string", "null"}
    parts = set(cast("dict[str, object]", feature)) if isinstance(feature, dict) else set[str]()
    return bool(parts & {"bytes", "path"})


def read_caption_cell(cell: object, column: str, source: str) -> tuple[str, ...] | Fault:
    """Return the captions in a cell.

    Raises:
        DatasetError: It holds no text.
    """
    texts = texts_of(cell)
    if texts is None:
        raise DatasetError(f"{source}: column '{column}' does not hold text: name another one")
    return check_captions(texts, f"fill its column '{column}' or remove the row")


def read_class_cell(cell: object, feature: object) -> str:
    """Return the name of a class; empty if there is none."""
    if isinstance(feature, datasets.ClassLabel) and isinstance(cell, int):
        # Tables of the hub mark a row without label by -1.
        return cast("str", feature.int2str(cell)) if cell >= 0 else ""
    return " ".join(str(cell).split()) if isinstance(cell, str | int) else ""
