"""Which picture goes where on the sheets of a command."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rasengan_xl.generation.grids import (
    Grid,
    columns_of_a_sheet,
    draw_grid,
    rows_of_a_sheet,
)
from rasengan_xl.generation.png import save_picture
from rasengan_xl.generation.sheet import DrawnPicture


@dataclass(frozen=True, slots=True)
class _Layout:
    columns: list[str]
    rows: list[str]
    files: dict[tuple[int, int], Path]
    """By row and column."""


def compose_sheets(drawn: Sequence[DrawnPicture], out: Path) -> list[Path]:
    """Put pictures side by side, on as many sheets as they need; none for one picture alone.

    Prompts are the rows and seeds the columns, where one subject drew most prompts with most seeds;
    else subjects are the columns, and each request is a row.

    Raises:
        UnwritableError: A sheet cannot be written.
    """
    if len(drawn) < 2:
        return []
    several = len({each.subject for each in drawn}) > 1
    layout = _by_subject(drawn) if several else _by_seed(drawn)
    is_sparse = 2 * len(layout.files) <= len(layout.rows) * len(layout.columns)
    if not several and (is_sparse or len(layout.files) < len(drawn)):  # each of its own seed, say
        layout = _by_subject(drawn)
    size = _largest(drawn)
    number = drawn[0].file.name.split("-")[0]
    sheets: list[Path] = []
    for part in _pages(layout, rows_of_a_sheet(size), columns_of_a_sheet(size)):
        suffix = f"-{len(sheets) + 1}" if sheets else ""
        file = out / f"{number}-grid{suffix}.png"
        save_picture(draw_grid(part), file, {"columns": part.columns, "rows": part.rows})
        sheets.append(file)
    return sheets


def _largest(drawn: Sequence[DrawnPicture]) -> tuple[int, int]:
    """Return the width of the widest picture, and the height of the highest."""
    sizes: list[tuple[int, int]] = []
    for each in drawn:
        with Image.open(each.file) as picture:
            sizes.append(picture.size)
    widths, heights = zip(*sizes, strict=True)
    return max(widths), max(heights)


def _by_subject(drawn: Sequence[DrawnPicture]) -> _Layout:
    columns = list(dict.fromkeys(each.subject for each in drawn))
    requests = {each.row: each.request for each in drawn}
    order = sorted(requests)
    one_seed = len({request.seed for request in requests.values()}) == 1
    rows = [
        requests[row].prompt if one_seed else f"[{requests[row].seed}] {requests[row].prompt}"
        for row in order
    ]
    files = {(order.index(each.row), columns.index(each.subject)): each.file for each in drawn}
    return _Layout(columns, rows, files)


def _by_seed(drawn: Sequence[DrawnPicture]) -> _Layout:
    seeds = sorted({each.request.seed for each in drawn})
    prompts = list(dict.fromkeys(_words(each) for each in drawn))
    files = {
        (prompts.index(_words(each)), seeds.index(each.request.seed)): each.file for each in drawn
    }
    return _Layout([f"seed {seed}" for seed in seeds], [prompt for prompt, _ in prompts], files)


def _words(drawn: DrawnPicture) -> tuple[str, object]:
    """Return what tells one row from another: the prompt, and what else differs from the seed."""
    return drawn.request.prompt, (drawn.request.negative_prompt, drawn.request.size)


def _pages(layout: _Layout, most_rows: int, most_columns: int) -> Iterator[Grid]:
    for top in range(0, len(layout.rows), most_rows):
        for left in range(0, len(layout.columns), most_columns):
            rows = range(top, min(top + most_rows, len(layout.rows)))
            columns = range(left, min(left + most_columns, len(layout.columns)))
            yield Grid(
                columns=[layout.columns[column] for column in columns],
                rows=[layout.rows[row] for row in rows],
                cells=[[_open(layout.files.get((r, c))) for c in columns] for r in rows],
            )


def _open(file: Path | None) -> Image.Image | None:
    if file is None:
        return None
    with Image.open(file) as picture:
        return picture.convert("RGB")
