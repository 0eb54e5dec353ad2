"""What a metadata.jsonl or metadata.csv says about the pictures beside it."""

import csv
import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import cast

from rasengan_xl.dataset.columns import choose_column
from rasengan_xl.errors import DatasetError

METADATA_NAMES = ("metadata.jsonl", "metadata.csv")

Row = dict[str, object]


def read_metadata(file: Path, caption_column: str | None) -> Iterator[tuple[str, str, str | None]]:
    """Yield, of each row, where it stands (file and line), its `file_name` and its caption.

    Raises:
        DatasetError: The file is malformed, or lacks a column.
    """
    rows = _read_lines if file.suffix == ".jsonl" else _read_table
    for line, row in rows(file):
        where = f"{file}, line {line}"
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            raise DatasetError(f"{where}: no file_name: add the path of the picture")
        caption = row[choose_column("caption", caption_column, row, where)]
        if caption is not None and not isinstance(caption, str):
            raise DatasetError(f"{where}: the caption is {caption!r}: make it a text")
        yield where, name, caption


def read_text(file: Path) -> str:
    """Read a text file that must be UTF-8; a byte order mark is dropped."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as fault:
        raise DatasetError(f"{file}: cannot be read ({fault}): save it as UTF-8") from fault


def _read_lines(file: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as fault:
            raise DatasetError(f"{file}, line {number}: not JSON ({fault}): mend it") from fault
        if not isinstance(row, dict):
            raise DatasetError(f"{file}, line {number}: make it one object in braces")
        yield number, cast("Row", row)


def _read_table(file: Path) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(StringIO(read_text(file)), strict=True)
    try:
        for row in reader:
            if None in row:
                raise DatasetError(
                    f"{file}, line {reader.line_num}: more fields than columns: "
                    "put captions that contain a comma in quotes"
                )
            yield reader.line_num, cast("Row", row)
    except csv.Error as fault:
        line = reader.reader.line_num
        raise DatasetError(f"{file}, line {line}: {fault}: mend it") from fault
