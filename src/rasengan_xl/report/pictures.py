"""The pictures of a comparison as data URIs: base beside each arm, for each training seed."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rasengan_xl.comparison.result import ArmResult, Comparison, NearestPicture, PictureRow
from rasengan_xl.config.comparison_settings import BASE
from rasengan_xl.report.reading import lies_within

PIXELATED_BELOW = 256
"""Pictures whose longer side is shorter than this are embedded as they are and shown enlarged,
with hard pixels: smoothing would invent detail."""
LONGEST_SIDE = 1024
"""Larger pictures are embedded at this size."""
MANY = 64
LONGEST_SIDE_OF_MANY = 640
"""More pictures than that are embedded at this size, lest the page weigh more than 10 MB."""
WEBP_QUALITY = 90
_PNG = "data:image/png;base64,"
_WEBP = "data:image/webp;base64,"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture, or why there is none."""

    uri: str | None = None
    width: int = 0
    height: int = 0
    reason: str | None = None
    seed: int | None = None
    """Training seed of the run that drew it; absent: the base, which was not trained."""

    @property
    def pixelated(self) -> bool:
        """Whether the picture is small enough to be shown enlarged."""
        return max(self.width, self.height) < PIXELATED_BELOW

    @property
    def reencoded(self) -> bool:
        """Whether it is embedded in another form than its file's."""
        return self.uri is not None and self.uri.startswith(_WEBP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One prompt from one first noise: by column, a picture for each training seed."""

    prompt: str
    seed: int
    cells: dict[str, list[Picture]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """All pictures: a row a prompt, a column for the base and for every arm that drew."""

    columns: list[str]
    rows: list[Row]
    seeds: list[int]
    """Training seeds that drew anything."""
    longest_side: int
    """Larger pictures were made as small as this."""

    @property
    def reencoded(self) -> bool:
        """Whether any picture is embedded in another form than its file's."""
        cells = (cell for row in self.rows for cell in row.cells.values())
        return any(picture.reencoded for cell in cells for picture in cell)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A drawn picture beside the training picture most like it."""

    drawn: Picture
    training: Picture
    facts: NearestPicture


def collect_wall(comparison: Comparison, folder: Path) -> Wall:
    """Embed every drawn picture of a comparison, in the order of its arms."""
    drawn = {name for row in comparison.pictures for name in row.arms}
    arms = [arm for arm in comparison.arms if arm.name in drawn]
    found = {int(seed) for row in comparison.pictures for arm in row.arms.values() for seed in arm}
    seeds = [seed for seed in comparison.seeds if seed in found] or sorted(found)
    side = _choose_side(comparison)
    return Wall(
        columns=[BASE, *(arm.name for arm in arms)],
        rows=[
            Row(
                prompt=row.prompt,
                seed=row.seed,
                cells={
                    BASE: [embed_picture(folder, row.base, longest_side=side)],
                    **{arm.name: _embed_seeds(folder, row, arm, seeds, side) for arm in arms},
                },
            )
            for row in comparison.pictures
        ],
        seeds=seeds,
        longest_side=side,
    )


def collect_nearest(comparison: Comparison, folder: Path) -> list[Pair]:
    """Embed the drawn pictures most like a training picture, and those, the most alike first."""
    ordered = sorted(comparison.nearest, key=lambda near: -near.similarity)
    return [
        Pair(
            drawn=embed_picture(folder, near.drawn, near.seed),
            training=embed_picture(folder, near.training),
            facts=near,
        )
        for near in ordered
    ]


def find_yardstick(comparison: Comparison) -> str:
    """Return what the similarity is, and of a held-out picture; empty if it was not measured."""
    named = {measure.key: measure for measure in comparison.measures}
    measure = named.get("nearest_training")
    return f"{measure.note[:1].upper()}{measure.note[1:].rstrip('.')}." if measure else ""


def embed_picture(
    folder: Path, path: str, seed: int | None = None, longest_side: int = LONGEST_SIDE
) -> Picture:
    """Embed one picture; one that cannot be read says so in its place.

    Args:
        folder: The comparison's.
        path: Relative to it.
        seed: Training seed of the run that drew it.
        longest_side: In pixels; a larger one is made smaller.
    """
    if not lies_within(folder, folder / path):
        return Picture(seed=seed, reason=f"{path} is not within the comparison's folder")
    try:
        content = (folder / path).read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            width, height = picture.size
            if picture.format == "PNG" and max(width, height) < PIXELATED_BELOW:
                uri = _PNG + _encode(content)
            else:
                uri = _WEBP + _encode(_shrink(picture, longest_side))
    except (OSError, SyntaxError, ValueError):  # Pillow raises all three on a broken file.
        return Picture(seed=seed, reason=f"{path} is missing or not a picture")
    return Picture(uri=uri, width=width, height=height, seed=seed)


def _choose_side(comparison: Comparison) -> int:
    drawn = sum(1 + sum(map(len, row.arms.values())) for row in comparison.pictures)
    return LONGEST_SIDE if drawn <= MANY else LONGEST_SIDE_OF_MANY


def _embed_seeds(
    folder: Path, row: PictureRow, arm: ArmResult, seeds: list[int], side: int
) -> list[Picture]:
    paths = row.arms.get(arm.name, {})
    status = {run.seed: run.status for run in arm.runs}
    reasons = {"failed": "this run failed", "missing": "not trained yet"}
    return [
        embed_picture(folder, paths[str(seed)], seed, side)
        if str(seed) in paths
        else Picture(
            seed=seed, reason=f"seed {seed}: {reasons.get(status.get(seed, ''), 'not drawn')}"
        )
        for seed in seeds
    ]


def _shrink(picture: Image.Image, longest_side: int) -> bytes:
    """Return a large picture as WebP: thirty of 1024 px as PNG would make a page of 60 MB."""
    copy = picture.convert("RGB")
    copy.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    copy.save(buffer, format="WEBP", quality=WEBP_QUALITY)
    return buffer.getvalue()


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
