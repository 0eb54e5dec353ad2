"""How far apart sets and pairs of pictures are, by the features an encoder gives them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

CMMD_SIGMA = 10.0
"""Width of the Gaussian kernel (arXiv:2401.09603, section 4)."""
SCALE = 1000.0
"""CMMD and KID are given in thousandths, as their papers do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """A kernel between all pictures of two sets, computed once for any number of replicates."""

    within_drawn: Float[np.ndarray, "drawn drawn"]
    """Nought on the diagonal: no picture is paired with itself."""
    within_reference: Float[np.ndarray, "reference reference"]
    """Nought on the diagonal."""
    between: Float[np.ndarray, "drawn reference"]


def cmmd_kernels(
    drawn: Float[np.ndarray, "drawn width"], reference: Float[np.ndarray, "reference width"]
) -> Kernels:
    """Compute CMMD's Gaussian kernel on unit-length features (arXiv:2401.09603 eq. 3).

    One is taken off every value, which changes no discrepancy, since its terms' weights sum to
    nought, and spares it the rounding of numbers close to one.
    """
    drawn, reference = normalise(drawn), normalise(reference)

    def kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.expm1((first @ second.T - 1) / CMMD_SIGMA**2)

    return _compute_kernels(
        kernel(drawn, drawn), kernel(reference, reference), kernel(drawn, reference)
    )


def kid_kernels(
    drawn: Float[np.ndarray, "drawn width"], reference: Float[np.ndarray, "reference width"]
) -> Kernels:
    """Compute KID's cubic kernel on the features as they are (arXiv:1801.01401, section 4)."""
    drawn, reference = drawn.astype(np.float64), reference.astype(np.float64)
    width = drawn.shape[1]

    def kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        linear = first @ second.T / width + 1
        return linear * linear * linear  # five times as fast as a power

    return _compute_kernels(
        kernel(drawn, drawn), kernel(reference, reference), kernel(drawn, reference)
    )


def discrepancy(
    kernels: Kernels,
    drawn_weights: Shaped[np.ndarray, "draw drawn"] | None = None,
    reference_weights: Shaped[np.ndarray, "draw reference"] | None = None,
) -> Float[np.ndarray, " draw"]:
    """Return the unbiased squared maximum mean discrepancy, times 1000, of each replicate.

    It is the U-statistic of Gretton et al. 2012 (JMLR 13:723, eq. 3), and so may be below nought;
    CMMD's own code takes the biased one, which is above nought even between equal distributions.
    A replicate leaves out the pairs of a picture with its own copy too: they would bias it.

    Args:
        kernels: Of the two sets.
        drawn_weights: How often each picture is in each replicate; once in a single one if absent.
        reference_weights: The same of the reference.
    """
    drawn, reference = kernels.between.shape
    drawn_weights = _or_once(drawn_weights, drawn)
    reference_weights = _or_once(reference_weights, reference)
    totals = drawn_weights.sum(axis=1) * reference_weights.sum(axis=1)
    between = ((drawn_weights @ kernels.between) * reference_weights).sum(axis=1) / totals
    within = _mean_over_pairs(kernels.within_drawn, drawn_weights)
    within_reference = _mean_over_pairs(kernels.within_reference, reference_weights)
    return SCALE * (within + within_reference - 2 * between)


def cosine_distances(
    features: Float[np.ndarray, "picture width"],
) -> Float[np.ndarray, "picture picture"]:
    """Return one less the cosine between all pictures of a set; nought on the diagonal."""
    unit = normalise(features)
    distances = 1 - unit @ unit.T
    np.fill_diagonal(distances, 0)
    return distances


def diversity(
    distances: Float[np.ndarray, "picture picture"],
    weights: Shaped[np.ndarray, "draw picture"] | None = None,
) -> Float[np.ndarray, " draw"]:
    """Return the mean distance of two different pictures of a set, of each replicate."""
    return _mean_over_pairs(distances, _or_once(weights, len(distances)))


def drift(
    first: Float[np.ndarray, "picture width"], second: Float[np.ndarray, "picture width"]
) -> Float[np.ndarray, " picture"]:
    """Return one less the cosine of each picture of one list with its partner in another."""
    return 1 - (normalise(first) * normalise(second)).sum(axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """For each picture of a set, the one of another that is most like it."""

    index: Int[np.ndarray, " picture"]
    similarity: Float[np.ndarray, " picture"]
    """Cosine of their features."""


def find_nearest(
    drawn: Float[np.ndarray, "drawn width"], training: Float[np.ndarray, "training width"]
) -> Nearest:
    """Find the training picture nearest to each drawn one by cosine."""
    cosines = normalise(drawn) @ normalise(training).T
    index = cosines.argmax(axis=1)
    return Nearest(index=index, similarity=cosines[np.arange(len(cosines)), index])


def normalise(features: Float[np.ndarray, "picture width"]) -> Float[np.ndarray, "picture width"]:
    """Bring features to unit length, in double precision; nought stays nought."""
    features = features.astype(np.float64)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths == 0, 1, lengths)


def _compute_kernels(drawn: np.ndarray, reference: np.ndarray, between: np.ndarray) -> Kernels:
    np.fill_diagonal(drawn, 0)
    np.fill_diagonal(reference, 0)
    return Kernels(within_drawn=drawn, within_reference=reference, between=between)


def _mean_over_pairs(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    # The diagonal of the values is nought, so that no picture meets itself or its copies.
    sums = ((weights @ values) * weights).sum(axis=1)
    return sums / (weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1))


def _or_once(weights: np.ndarray | None, pictures: int) -> np.ndarray:
    return np.ones((1, pictures)) if weights is None else weights.astype(np.float64)
