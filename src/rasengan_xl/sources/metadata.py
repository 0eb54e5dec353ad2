"""What a metadata.jsonl or metadata.csv says about the pictures beside it."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import cast

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.candidates import Fault
from rasengan_xl.sources.caption_reading import check_captions, texts_of
from rasengan_xl.sources.columns import choose_column, find_column
from rasengan_xl.sources.names import printable

METADATA_NAMES = ("metadata.jsonl", "metadata.csv")

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class DescribedPicture:
    """One row of metadata."""

    where: str
    """File and line, for messages."""
    file_name: str
    """From the folder of the metadata."""
    captions: tuple[str, ...] | Fault
    class_name: str | None
    """Absent where the metadata have no such column."""


def read_metadata(file: Path, caption_column: str | None) -> Iterator[DescribedPicture]:
    """Yield what each row says.

    Raises:
        DatasetError: The file is malformed, or lacks a column.
    """
    rows = _read_lines if file.suffix == ".jsonl" else _read_table
    for line, row in rows(file):
        where = f"{printable(str(file))}, line {line}"
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            raise DatasetError(f"{where}: no file_name: add the path of the picture")
        caption = row[choose_column("caption", caption_column, row, where)]
        texts = texts_of(caption)
        if texts is None:
            raise DatasetError(
                f"{where}: the caption is {caption!r:.80}: make it a text or a list of texts"
            )
        label = find_column("class", row)
        yield DescribedPicture(
            where=where,
            file_name=name,
            captions=check_captions(texts, f"put one into line {line} of {file.name}"),
            class_name=None if label is None else str(row[label] or "").strip(),
        )


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as fault:
        raise DatasetError(
            f"{printable(str(file))}: cannot be read ({fault}): save it as UTF-8"
        ) from fault


def _read_lines(file: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(_read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{printable(str(file))}, line {number}"
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as fault:
            raise DatasetError(f"{where}: not JSON ({fault}): mend it") from fault
        if not isinstance(row, dict):
            raise DatasetError(f"{where}: make it one object in braces")
        yield number, cast("Row", row)


def _read_table(file: Path) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(StringIO(_read_text(file)), strict=True)
    try:
        for row in reader:
            if None in row:
                raise DatasetError(
                    f"{printable(str(file))}, line {reader.line_num}: more fields than columns: "
                    "put captions that contain a comma in quotes"
                )
            yield reader.line_num, cast("Row", row)
    except csv.Error as fault:
        line = reader.reader.line_num
        raise DatasetError(f"{printable(str(file))}, line {line}: {fault}: mend it") from fault
