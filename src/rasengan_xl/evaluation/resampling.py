"""Which pictures each bootstrap replicate is over: the same for all arms, so that they pair."""

import hashlib

import numpy as np
from jaxtyping import Int

DRAWS = 2000
"""Replicates: a variance from so many is itself known within 3 %."""
SMALLEST_SET = 8
"""Fewest pictures that a distance between sets is resampled over."""


def picture_weights(pictures: int, draws: int, key: str) -> Int[np.ndarray, "draw picture"]:
    """Draw how often each picture is in each replicate (Efron 1979, doi:10.1214/aos/1176344552).

    Everything that is over the same sample of pictures takes the same weights, so that differences
    are paired; another sample, such as the reference pictures, has a key of its own.

    Args:
        pictures: Size of the sample, and of each replicate.
        draws: Number of replicates.
        key: Names the sample; equal keys give equal weights, in every process.
    """
    seed = int.from_bytes(hashlib.sha256(f"{key}\0{pictures}".encode()).digest()[:16])
    random = np.random.default_rng(seed)
    shares = np.full(pictures, 1 / pictures)
    weights = random.multinomial(pictures, shares, size=draws)
    # A replicate of one picture alone holds no pair of two.  That is so rare in a set large enough
    # to be measured that drawing such a replicate again changes nothing else.
    while pictures >= SMALLEST_SET and (single := weights.max(axis=1) == pictures).any():
        weights[single] = random.multinomial(pictures, shares, size=int(single.sum()))
    return weights
