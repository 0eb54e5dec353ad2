"""The pictures of a comparison as data URIs, base beside each arm."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rasengan_xl.comparison.result import BASE, Comparison

PIXELATED_BELOW = 256
"""Pictures whose longer side is shorter than this are embedded as they are and shown enlarged,
with hard pixels: smoothing would invent detail."""
LONGEST_SIDE = 1024
"""Larger pictures are embedded at this size; the page shows them at 512 at most."""
WEBP_QUALITY = 90
_PNG = "data:image/png;base64,"
_WEBP = "data:image/webp;base64,"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One picture of the grid, or why there is none."""

    column: str
    uri: str | None = None
    width: int = 0
    height: int = 0
    reason: str | None = None

    @property
    def pixelated(self) -> bool:
        """Whether the picture is small enough to be shown enlarged."""
        return max(self.width, self.height) < PIXELATED_BELOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One prompt and seed: the base's picture first, then every arm's."""

    prompt: str
    seed: int
    cells: list[Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All pictures: a row a prompt, a column for the base and for every arm that drew."""

    columns: list[str]
    rows: list[Row]

    @property
    def reencoded(self) -> bool:
        """Whether any picture is embedded in another form than its file's."""
        uris = (cell.uri for row in self.rows for cell in row.cells)
        return any(uri is not None and uri.startswith(_WEBP) for uri in uris)


def collect_pictures(comparison: Comparison, folder: Path) -> Grid:
    """Embed every picture of a comparison, in the order of its arms."""
    drawn = {name for row in comparison.pictures for name in row.arms}
    arms = [arm.name for arm in comparison.arms if arm.name in drawn]
    rows = [
        Row(
            prompt=row.prompt,
            seed=row.seed,
            cells=[
                embed_picture(folder, row.base, BASE),
                *(embed_picture(folder, row.arms.get(arm), arm) for arm in arms),
            ],
        )
        for row in comparison.pictures
    ]
    return Grid(columns=[BASE, *arms], rows=rows)


def embed_picture(folder: Path, path: str | None, column: str) -> Cell:
    """Embed one picture; one that cannot be read becomes a cell that says so."""
    if path is None:
        return Cell(column=column, reason="not drawn")
    try:
        content = (folder / path).read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            width, height = picture.size
            if picture.format == "PNG" and max(width, height) < PIXELATED_BELOW:
                uri = _PNG + _encode(content)
            else:
                uri = _WEBP + _encode(_shrink(picture))
    except (OSError, SyntaxError, ValueError):  # Pillow raises all three on a broken file.
        return Cell(column=column, reason=f"{path} is missing or not a picture")
    return Cell(column=column, uri=uri, width=width, height=height)


def _shrink(picture: Image.Image) -> bytes:
    """Return a large picture as WebP: thirty of 1024 px as PNG would make a page of 60 MB."""
    copy = picture.convert("RGB")
    copy.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    copy.save(buffer, format="WEBP", quality=WEBP_QUALITY)
    return buffer.getvalue()


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
