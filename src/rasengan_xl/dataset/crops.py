"""How a picture is cut to the size of training, and what SDXL is told about it."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from PIL import Image

CropPolicy = Literal["center", "random"]
SizeNumbers = tuple[int, int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CropRules:
    """How every picture of a dataset is cut."""

    resolution: int
    """Side of the square crop, in pixels."""
    policy: CropPolicy
    crops_per_picture: int
    flip: bool
    """Whether each crop has a mirrored companion; this doubles the number of variants."""
    seed: int
    """Of the offsets of random crops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """One way to cut a picture; all lengths in pixels."""

    original_height: int
    original_width: int
    resized_height: int
    resized_width: int
    flipped: bool
    """Mirrored after resizing and before cutting: `left` counts in the mirrored picture."""
    top: int
    left: int
    target_height: int
    target_width: int

    @property
    def upscaled(self) -> bool:
        """Whether the short side of the picture lies below the resolution."""
        return self.resized_height > self.original_height


def list_variants(width: int, height: int, digest: str, rules: CropRules) -> tuple[Crop, ...]:
    """List every crop of a picture: `crops_per_picture`, then as many mirrored ones.

    Crops may coincide: all centre crops do, and the random ones of a square picture.

    Args:
        width: Of the picture, upright.
        height: Of the picture, upright.
        digest: Identity of the picture; with the seed and the variant's number it decides
            where a random crop lies.
        rules: How to cut.
    """
    count = rules.crops_per_picture
    return tuple(
        _place(
            width,
            height,
            f"crop {rules.seed} {digest} {variant}",
            rules,
            flipped=variant >= count,
        )
        for variant in range(2 * count if rules.flip else count)
    )


def apply_crop(image: Image.Image, crop: Crop) -> Image.Image:
    """Resize (Lanczos), mirror and cut a picture, in this order."""
    assert image.size == (crop.original_width, crop.original_height)
    size = (crop.resized_width, crop.resized_height)
    resized = image.resize(size, Image.Resampling.LANCZOS)
    if crop.flipped:
        resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    right, bottom = crop.left + crop.target_width, crop.top + crop.target_height
    return resized.crop((crop.left, crop.top, right, bottom))


def size_numbers(crop: Crop) -> SizeNumbers:
    """Return SDXL's six size conditions in its order (arXiv:2307.01952, sections 2.2 and 2.3)."""
    return (
        crop.original_height,
        crop.original_width,
        crop.top,
        crop.left,
        crop.target_height,
        crop.target_width,
    )


def _place(width: int, height: int, label: str, rules: CropRules, *, flipped: bool) -> Crop:
    side = rules.resolution
    short = min(width, height)
    resized_width = round(width * side / short)
    resized_height = round(height * side / short)
    spare_width, spare_height = resized_width - side, resized_height - side
    if rules.policy == "center":
        top, left = spare_height // 2, spare_width // 2
    else:
        top, left = _draw_offsets(label, spare_height, spare_width)
    return Crop(
        original_height=height,
        original_width=width,
        resized_height=resized_height,
        resized_width=resized_width,
        flipped=flipped,
        top=top,
        left=left,
        target_height=side,
        target_width=side,
    )


def _draw_offsets(label: str, spare_height: int, spare_width: int) -> tuple[int, int]:
    drawn = hashlib.sha256(label.encode()).digest()
    down, right = int.from_bytes(drawn[:8], "big"), int.from_bytes(drawn[8:16], "big")
    return down % (spare_height + 1), right % (spare_width + 1)
