"""Several pictures on one sheet, with what each column and row is written beside them."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

GAP = 4
"""White space between pictures, in pixels."""
LARGEST_SIDE = 16_000
"""Of a sheet, in pixels; larger ones are refused by many programs."""

_LEAST_TEXT, _MOST_TEXT = 9, 28
_PICTURES_TO_TEXT = 26
_LINES_OF_ROW_LABEL = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Pictures in rows and columns, with a label for each."""

    columns: Sequence[str]
    rows: Sequence[str]
    cells: Sequence[Sequence[Image.Image | None]]
    """[row][column]; None: was not drawn."""


def draw_grid(grid: Grid) -> Image.Image:
    """Draw the pictures side by side, column labels above and row labels to the left."""
    sizes = [cell.size for row in grid.cells for cell in row if cell is not None]
    width, height = (max(side) for side in zip(*sizes, strict=True))
    font = _font(width)
    left = (
        min(3 * width // 2, max(96, _PICTURES_TO_TEXT // 2 * int(font.size)))
        if any(grid.rows)
        else 0
    )
    labels = [_wrap(label, font, width, 2) for label in grid.columns]
    top = max(_text_height(label, font) for label in labels)
    sheet = Image.new(
        "RGB",
        (
            left + len(grid.columns) * (width + GAP) + GAP,
            top + len(grid.rows) * (height + GAP) + GAP,
        ),
        "white",
    )
    pen = ImageDraw.Draw(sheet)
    for column, label in enumerate(labels):
        across = left + GAP + column * (width + GAP) + width / 2
        pen.multiline_text((across, GAP), label, "black", font, anchor="ma", align="center")
    for row, cells in enumerate(grid.cells):
        down = top + row * (height + GAP)
        lines = min(_LINES_OF_ROW_LABEL, max(1, int(height / (1.3 * font.size))))
        label = _wrap(grid.rows[row], font, left - 2 * GAP, lines)
        pen.multiline_text((GAP, down), label, "black", font)
        for column, cell in enumerate(cells):
            if cell is not None:
                sheet.paste(cell, (left + GAP + column * (width + GAP), down))
    return sheet


def rows_of_a_sheet(picture: tuple[int, int]) -> int:
    """Return how many rows of pictures of a size one sheet may have."""
    return max(1, min(32, (LARGEST_SIDE - 200) // (picture[1] + GAP)))


def columns_of_a_sheet(picture: tuple[int, int]) -> int:
    """Return how many columns of pictures of a size one sheet may have."""
    return max(1, (LARGEST_SIDE - 800) // (picture[0] + GAP))


def _font(width: int) -> ImageFont.FreeTypeFont:
    size = min(_MOST_TEXT, max(_LEAST_TEXT, width // _PICTURES_TO_TEXT))
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's wheels have FreeType
    return font


def _text_height(text: str, font: ImageFont.FreeTypeFont) -> int:
    return int((text.count("\n") + 1) * font.size * 1.35) + 2 * GAP


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int, lines: int) -> str:
    """Break a text into lines no wider than `width` pixels; what is left over ends in dots."""
    broken: list[str] = []
    rest = " ".join(text.split())
    while rest and len(broken) < lines:
        fits = _longest_beginning(rest, font, width)
        cut = rest[:fits].rstrip()
        if fits < len(rest) and not rest[fits].isspace() and " " in cut:
            cut = cut.rsplit(" ", 1)[0]
        broken.append(cut)
        rest = rest[len(cut) :].lstrip()
    if rest and broken:
        broken[-1] = f"{broken[-1][:-3]}..."
    return "\n".join(broken)


def _longest_beginning(text: str, font: ImageFont.FreeTypeFont, width: int) -> int:
    """Count the characters from the start that fit; at least one."""
    low, high = 1, min(len(text), 400)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    return low
