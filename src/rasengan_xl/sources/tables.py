"""Datasets that lie on this machine as rows that can be read in any order."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from rasengan_xl.config.dataset_settings import DatasetSettings
from rasengan_xl.errors import DatasetError
from rasengan_xl.file_digests import file_key
from rasengan_xl.sources.candidates import Candidate, Listing
from rasengan_xl.sources.cells import (
    may_hold_pictures,
    read_caption_cell,
    read_class_cell,
    read_picture_cell,
)
from rasengan_xl.sources.columns import Columns, choose_columns

_arrow, _compute = cast("Any", pa), cast("Any", pc)  # without types


def list_rows(
    table: datasets.Dataset, settings: DatasetSettings, folder: Path | None = None
) -> Listing:
    """List a picture for every row of a table, its bytes left where they are.

    Args:
        table: The rows.
        settings: Name the dataset, its split and its columns.
        folder: What relative paths in the image column start from.

    Raises:
        DatasetError: A column is missing or of the wrong kind.
    """
    columns = choose_columns(settings, table.column_names, settings.source)
    feature = cast("object", table.features[columns.image])
    if not may_hold_pictures(feature):
        raise DatasetError(
            f"{settings.source}: column '{columns.image}' does not hold pictures: name another one"
        )
    pictures = table.select_columns([columns.image])
    if isinstance(feature, datasets.Image):
        pictures = pictures.cast_column(columns.image, datasets.Image(decode=False))
    return Listing(
        name=settings.source,
        candidates=_describe(table, pictures, columns, settings, folder),
        count=len(table),
    )


def _describe(
    table: datasets.Dataset,
    pictures: datasets.Dataset,
    columns: Columns,
    settings: DatasetSettings,
    folder: Path | None,
) -> Iterator[Candidate]:
    captions = list(cast("Iterable[object]", table[columns.caption]))
    classes: list[object] = [None] * len(captions)
    label = None
    if columns.class_name is not None:
        classes = list(cast("Iterable[object]", table[columns.class_name]))
        label = cast("object", table.features[columns.class_name])
    key = _content_key(pictures, f"{settings.split}|{columns.image}")
    for number, (caption, class_cell) in enumerate(zip(captions, classes, strict=True)):
        yield Candidate(
            name=f"row {number}",
            captions=read_caption_cell(caption, columns.caption, settings.source),
            class_name=read_class_cell(class_cell, label),
            content_key=key and f"{key}|{number}",
            read=partial(_read, pictures, number, folder),
        )


def _read(pictures: datasets.Dataset, number: int, folder: Path | None) -> bytes:
    (cell,) = cast("dict[str, object]", pictures[number]).values()
    return read_picture_cell(cell, folder)


def _content_key(pictures: datasets.Dataset, rows: str) -> str | None:
    """Return what stands for all cells as long as the table's files stay as they are."""
    keys = [
        file_key(Path(file["filename"]))
        for file in cast("list[dict[str, str]]", pictures.cache_files)
    ]
    if not keys or None in keys or _names_files(pictures):
        return None
    return hashlib.sha256(
        "\n".join([rows, *map(str, keys)]).encode(errors="surrogateescape")
    ).hexdigest()


def _names_files(pictures: datasets.Dataset) -> bool:
    """Tell whether some cells hold no bytes, but the name of a file."""
    data = cast("Any", pictures.data)
    for chunk in data.column(0).chunks:
        kind = chunk.type
        if not _arrow.types.is_struct(kind):
            return "string" in str(kind)
        fields = [field.name for field in kind]
        if "path" in fields:
            named = chunk.field("path").is_valid()
            held = chunk.field("bytes").is_valid() if "bytes" in fields else False
            if _compute.any(_compute.and_not(named, held)).as_py():
                return True
    return False
