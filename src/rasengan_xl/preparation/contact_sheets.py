"""Pictures of what is trained on: every crop small, size by size, on numbered sheets."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from rasengan_xl.dataset.buckets import Bucket

PICTURES_PER_SHEET = 120
SHEET_COLUMNS_WIDTH = 1800
"""Most pixels that the pictures of one row take."""

_THUMBNAIL_AREA = 160**2
_LEAST_CELL_WIDTH = 136
_LEAST_SHEET_WIDTH = 760
_MARGIN, _GAP, _HEADER = 36, 16, 112
_NAME_HEIGHT, _CHIP_HEIGHT = 22, 22
_PAPER, _INK, _FAINT, _RULE = "#f7f5f0", "#22201c", "#78736a", "#dcd7cc"


class Chip(NamedTuple):
    """A mark below a thumbnail."""

    text: str
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One picture on a sheet."""

    image: Image.Image
    """Shrunk to the thumbnail of its bucket."""
    number: int
    name: str
    chips: tuple[Chip, ...]


def shrink(image: Image.Image, bucket: Bucket) -> Image.Image:
    """Make a crop as small as it appears on a sheet."""
    return image.resize(_thumbnail_size(bucket), Image.Resampling.LANCZOS)


def draw_sheet(tiles: Sequence[Tile], bucket: Bucket, title: str, subtitle: str) -> Image.Image:
    """Lay out thumbnails in rows, with number, name and marks below each.

    Args:
        tiles: At least one, shrunk to the bucket's thumbnail.
        bucket: The size that they are trained at.
        title: First line.
        subtitle: Second line.
    """
    assert tiles
    wide, tall = _thumbnail_size(bucket)
    cell = max(wide, _LEAST_CELL_WIDTH)
    columns = min(len(tiles), (SHEET_COLUMNS_WIDTH + _GAP) // (cell + _GAP))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [tall + _GAP + max(_height_below(tile, cell) for tile in row) for row in rows]
    width = max(_LEAST_SHEET_WIDTH, 2 * _MARGIN + columns * (cell + _GAP) - _GAP)
    sheet = Image.new("RGB", (width, _HEADER + sum(heights) + _MARGIN - _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 28), title, _INK, _font(28))
    draw.text((_MARGIN, 66), subtitle, _FAINT, _font(16))
    draw.line((_MARGIN, 96, width - _MARGIN, 96), _RULE)
    for number, row in enumerate(rows):
        top = _HEADER + sum(heights[:number])
        for column, tile in enumerate(row):
            left = _MARGIN + column * (cell + _GAP)
            sheet.paste(tile.image, (left, top))
            # Pictures with the paper's colour at the edge would have no edge.
            draw.rectangle((left - 1, top - 1, left + wide, top + tall), outline=_RULE)
            _write_below(draw, tile, left, top + tall + 4, cell)
    return sheet


def _thumbnail_size(bucket: Bucket) -> tuple[int, int]:
    scale = sqrt(_THUMBNAIL_AREA / (bucket.width * bucket.height))
    return max(1, round(bucket.width * scale)), max(1, round(bucket.height * scale))


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)  # comes with Pillow, so that sheets look alike anywhere
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _height_below(tile: Tile, cell: int) -> int:
    return _NAME_HEIGHT + len(_break_chips(tile.chips, cell)) * _CHIP_HEIGHT


def _write_below(draw: ImageDraw.ImageDraw, tile: Tile, left: int, top: int, cell: int) -> None:
    number = f"{tile.number}"
    draw.text((left, top), number, _FAINT, _font(13))
    indent = draw.textlength(number, _font(13)) + 6
    name = _shorten(draw, _printable(tile.name), cell - indent)
    draw.text((left + indent, top), name, _INK, _font(13))
    for line, chips in enumerate(_break_chips(tile.chips, cell)):
        x: float = left
        y = top + _NAME_HEIGHT + line * _CHIP_HEIGHT - 2
        for chip in chips:
            width = _chip_width(chip)
            draw.rounded_rectangle((x, y, x + width, y + 18), 4, chip.colour)
            draw.text((x + 6, y + 2), chip.text, "white", _font(12))
            x += width + 4


def _break_chips(chips: Sequence[Chip], cell: int) -> list[list[Chip]]:
    """Break chips into lines that fit a cell."""
    lines: list[list[Chip]] = []
    room = 0.0
    for chip in chips:
        width = _chip_width(chip)
        if not lines or width > room:
            lines.append([])
            room = cell
        lines[-1].append(chip)
        room -= width + 4
    return lines


def _chip_width(chip: Chip) -> float:
    return _font(12).getlength(chip.text) + 12


def _printable(name: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in name)


def _shorten(draw: ImageDraw.ImageDraw, name: str, room: float) -> str:
    """Cut the middle out of a name that is too long: its beginning and its end tell most."""
    font = _font(13)
    if draw.textlength(name, font) <= room:
        return name
    for kept in range(min(len(name), 60) - 1, 1, -1):
        short = f"{name[: kept // 2]}…{name[-(kept - kept // 2) :]}"
        if draw.textlength(short, font) <= room:
            return short
    return "…"
