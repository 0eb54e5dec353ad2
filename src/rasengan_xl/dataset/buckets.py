"""The sizes that pictures are trained at: near one area, in many shapes, and which of them fits."""

from functools import cache
from typing import NamedTuple


class Bucket(NamedTuple):
    """A training size, in pixels."""

    height: int
    width: int


Buckets = tuple[Bucket, ...]

_LEAST_AREA = (9, 10)
"""Part of the square's area that a bucket must exceed: what SDXL's own list keeps to."""


@cache
def list_buckets(resolution: int, multiple: int) -> Buckets:
    """List the sizes SDXL was trained at (arXiv:2307.01952, appendix I), for any resolution.

    All (height, width) with sides from half to twice the resolution that are multiples of
    `multiple`, and with an area above 90 and up to 100 % of the square's. At 1024 and 64 these
    are the paper's 40 sizes and 1344 x 704, whose mirror image 704 x 1344 is among them.

    Args:
        resolution: Side of the square, a multiple of `multiple`.
        multiple: Of all sides.
    """
    part, whole = _LEAST_AREA
    square = resolution**2
    # Half the resolution, rounded up to a multiple.
    sides = range(-(-resolution // (2 * multiple)) * multiple, 2 * resolution + 1, multiple)
    return tuple(
        Bucket(height, width)
        for height in sides
        for width in sides
        if part * square < whole * height * width <= whole * square
    )


def choose_bucket(width: int, height: int, buckets: Buckets) -> Bucket:
    """Return the bucket whose aspect ratio is nearest to a picture's, by their logarithms.

    Of several that are equally near the largest is taken, then the widest.
    """
    assert buckets

    def rank(bucket: Bucket) -> tuple[float, int, int]:
        # The distance of logarithms is the logarithm of this ratio. A quotient of integers is
        # the same on any machine; a logarithm need not be.
        across, down = width * bucket.height, height * bucket.width
        apart = max(across, down) / min(across, down)
        return apart, -bucket.height * bucket.width, -bucket.width

    return min(buckets, key=rank)
