"""How a picture is cut to the size of training, and what SDXL is told about it."""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

from PIL import Image

from rasengan_xl.dataset.buckets import Bucket, Buckets, choose_bucket, list_buckets

CropPolicy = Literal["center", "random", "top"]
Shapes = Literal["buckets", "square"]
SizeNumbers = tuple[int, int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CropRules:
    """How every picture of a dataset is cut."""

    resolution: int
    """Side in pixels of the square whose area every training size keeps to."""
    shapes: Shapes
    """The training size nearest to each picture's aspect ratio, or the square for all."""
    bucket_multiple: int
    """Sides of buckets are multiples of this many pixels; the square need not be."""
    policy: CropPolicy
    """What stays of a picture: the middle, a place that is drawn, or the top."""
    crops_per_picture: int
    flip: bool
    """Whether each crop has a mirrored companion; this doubles the number of variants."""
    seed: int
    """Of the offsets of random crops."""

    @property
    def buckets(self) -> Buckets:
        """Every size that a picture may be cut to."""
        if self.shapes == "square":
            return (Bucket(self.resolution, self.resolution),)
        return list_buckets(self.resolution, self.bucket_multiple)


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
    def bucket(self) -> Bucket:
        """The size it is cut to."""
        return Bucket(self.target_height, self.target_width)

    @property
    def upscaling(self) -> float:
        """How many times as long the picture's sides become; below 1 it is made smaller."""
        return max(
            self.target_height / self.original_height, self.target_width / self.original_width
        )

    @property
    def upscaled(self) -> bool:
        """Whether the picture is smaller than its training size."""
        return self.upscaling > 1


def list_variants(width: int, height: int, digest: str, rules: CropRules) -> tuple[Crop, ...]:
    """List every crop of a picture: `crops_per_picture`, then the mirror image of each.

    All are of the same size. They may coincide: all centre crops do, and so do the random ones
    of a picture that has the shape of its bucket.

    Args:
        width: Of the picture, upright.
        height: Of the picture, upright.
        digest: Identity of the picture; with the seed and the variant's number it decides
            where a random crop lies.
        rules: How to cut.
    """
    bucket = choose_bucket(width, height, rules.buckets)
    labels = (f"crop {rules.seed} {digest} {number}" for number in range(rules.crops_per_picture))
    plain = tuple(_place(width, height, bucket, rules.policy, label) for label in labels)
    return (*plain, *map(_mirror, plain)) if rules.flip else plain


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


def _place(width: int, height: int, bucket: Bucket, policy: CropPolicy, label: str) -> Crop:
    resized_width, resized_height = _cover(width, height, bucket)
    spare_width, spare_height = resized_width - bucket.width, resized_height - bucket.height
    if policy == "random":
        top, left = _draw_offsets(label, spare_height, spare_width)
    else:
        top, left = (0 if policy == "top" else spare_height // 2), spare_width // 2
    return Crop(
        original_height=height,
        original_width=width,
        resized_height=resized_height,
        resized_width=resized_width,
        flipped=False,
        top=top,
        left=left,
        target_height=bucket.height,
        target_width=bucket.width,
    )


def _cover(width: int, height: int, bucket: Bucket) -> tuple[int, int]:
    """Return the least size of the picture's shape that covers a bucket; one side is equal."""
    if bucket.width * height >= bucket.height * width:
        return bucket.width, _divide_rounding(height * bucket.width, width)
    return _divide_rounding(width * bucket.height, height), bucket.height


def _divide_rounding(dividend: int, divisor: int) -> int:
    return (2 * dividend + divisor) // (2 * divisor)


def _draw_offsets(label: str, spare_height: int, spare_width: int) -> tuple[int, int]:
    drawn = hashlib.sha256(label.encode()).digest()
    down, right = int.from_bytes(drawn[:8], "big"), int.from_bytes(drawn[8:16], "big")
    return down % (spare_height + 1), right % (spare_width + 1)


def _mirror(crop: Crop) -> Crop:
    """Return the crop that shows the same part of the picture mirrored."""
    return replace(crop, flipped=True, left=crop.resized_width - crop.target_width - crop.left)
