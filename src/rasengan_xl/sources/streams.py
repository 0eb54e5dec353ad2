"""Datasets read row by row as they come over the network, none of them stored."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import cast

import datasets

from rasengan_xl.config.dataset_settings import DatasetSettings
from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.candidates import Candidate, Listing
from rasengan_xl.sources.cells import (
    may_hold_pictures,
    read_caption_cell,
    read_class_cell,
    read_picture_cell,
)
from rasengan_xl.sources.columns import Columns, choose_columns
from rasengan_xl.sources.names import one_line
from rasengan_xl.sources.row_ranges import choose_streamed_rows
from rasengan_xl.sources.scanning import CANDIDATES_AHEAD

Row = Mapping[str, object]


class RowStream:
    """Rows by number: cheap as long as the numbers mostly grow, anew from the start otherwise.

    The rows that passed last are kept, so that several threads may ask for neighbours in any
    order.
    """

    def __init__(self, rows: datasets.IterableDataset, source: str) -> None:
        """Take the rows, and the name of the dataset for errors."""
        self._rows, self._source = rows, source
        self._lock = threading.Lock()
        self._passed: OrderedDict[int, Row] = OrderedDict()
        self._coming: Iterator[Row] | None = None
        self._next = 0

    def row(self, number: int) -> Row | None:
        """Return a row, or nothing if there are not so many.

        Raises:
            DatasetError: The stream broke off.
        """
        with self._lock:
            if number in self._passed:
                return self._passed[number]
            if self._coming is None or number < self._next:
                self._coming, self._next = cast("Iterator[Row]", iter(self._rows)), 0
                self._passed.clear()
            while self._next <= number:
                row = self._advance(self._coming)
                if row is None:
                    return None
                self._passed[self._next] = row
                self._next += 1
                if len(self._passed) > CANDIDATES_AHEAD:
                    self._passed.popitem(last=False)
            return self._passed[number]

    def _advance(self, coming: Iterator[Row]) -> Row | None:
        try:
            return next(coming, None)
        except Exception as fault:  # Of the network, or of the format, each library its own.
            self._coming = None
            raise DatasetError(
                f"{self._source}: the stream broke off after {self._next} rows "
                f"({one_line(fault.__cause__ or fault)}): try again, or set "
                "dataset.streaming=false to download it first"
            ) from fault


def list_stream(
    rows: datasets.IterableDataset,
    settings: DatasetSettings,
    *,
    content_key: str | None,
    folder: Path | None = None,
) -> Listing:
    """List a picture for every row of a stream.

    Args:
        rows: Of the whole split; its slice is taken here.
        settings: Name the dataset, its split and its columns.
        content_key: Stands for the rows of the whole split until they change.
        folder: What relative paths in the image column start from.

    Raises:
        DatasetError: A column is missing or of the wrong kind, or the slice counts from the end.
    """
    start, stop = choose_streamed_rows(settings.split)
    rows = rows.decode(enable=False)
    # Formats without a schema tell their columns by the first row only.
    names = rows.column_names or list(next(cast("Iterator[Row]", iter(rows)), dict[str, object]()))
    columns = choose_columns(settings, names, settings.source)
    features = cast("Mapping[str, object]", rows.features or {})
    if columns.image in features and not may_hold_pictures(features[columns.image]):
        raise DatasetError(
            f"{settings.source}: column '{columns.image}' does not hold pictures: name another one"
        )
    used = (columns.image, columns.caption, columns.class_name)
    rows = rows.select_columns([name for name in names if name in used]).skip(start)
    if stop is not None:
        rows = rows.take(max(0, stop - start))
    table = _StreamedTable(
        rows=RowStream(rows, settings.source),
        columns=columns,
        class_feature=features.get(columns.class_name or ""),
        source=settings.source,
        folder=folder,
        content_key=content_key,
        start=start,
    )
    return Listing(
        name=settings.source,
        candidates=table.candidates(),
        count=None if stop is None else max(0, stop - start),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _StreamedTable:
    rows: RowStream
    columns: Columns
    class_feature: object
    source: str
    folder: Path | None
    content_key: str | None
    start: int

    def candidates(self) -> Iterator[Candidate]:
        for number in count():
            row = self.rows.row(number)
            if row is None:
                return
            column = self.columns.caption
            yield Candidate(
                name=f"row {number}",
                captions=read_caption_cell(row.get(column), column, self.source),
                class_name=read_class_cell(
                    row.get(self.columns.class_name or ""), self.class_feature
                ),
                content_key=self.content_key and f"{self.content_key}|{self.start + number}",
                read=partial(self.read, number),
            )

    def read(self, number: int) -> bytes:
        row = self.rows.row(number)
        if row is None:
            raise OSError("the stream has become shorter")
        return read_picture_cell(row.get(self.columns.image), self.folder)
