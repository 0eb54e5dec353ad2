"""The figures of the page as plain tables: one CSV file each, unrounded."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rasengan_xl.runs.folder import write_whole

TABLES_FOLDER = "tables"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTable:
    """Rows of figures under their columns."""

    name: str
    """Stem of its file."""
    title: str
    """What the page calls it."""
    columns: tuple[str, ...]
    rows: list[tuple[Value, ...]]


def write_tables(tables: Sequence[DataTable], folder: Path) -> list[Path]:
    """Write every table that has rows into the folder `tables`, each whole or not at all.

    Files of an earlier page that have no rows any more are removed.
    """
    folder = folder / TABLES_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for table in tables:
        file = folder / f"{table.name}.csv"
        if table.rows:
            write_whole(file, _write_csv(table))
            written.append(file)
        else:
            file.unlink(missing_ok=True)
    return written


def _write_csv(table: DataTable) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([[_as_text(value) for value in row] for row in table.rows])
    return text.getvalue()


def _as_text(value: Value) -> Value:
    """Keep a spreadsheet from taking words for a formula, as OWASP advises: by an apostrophe."""
    if not isinstance(value, str) or not value.startswith(_FORMULA) or _is_number(value):
        return value
    return f"'{value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
