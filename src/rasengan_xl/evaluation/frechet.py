"""The Frechet distance between large sets of pictures, and why not between small ones."""

import numpy as np
from jaxtyping import Float

FID_PICTURES = 2048
"""Fewest pictures a Frechet distance is offered for: as many as FID's features have dimensions."""


def frechet_refusal(drawn: int, reference: int) -> str | None:
    """Say in one line why a Frechet distance is not offered; nothing if it is.

    Args:
        drawn: Number of pictures.
        reference: Number of pictures they are compared with.
    """
    if min(drawn, reference) >= FID_PICTURES:
        return None
    return (
        f"FID is not given: of {drawn} drawn and {reference} reference pictures it would say more "
        f"about their number than about the pictures; it needs {FID_PICTURES:,} of both "
        "(arXiv:1911.07023). CMMD and KID have no such bias."
    )


def frechet_distance(
    first: Float[np.ndarray, "first width"], second: Float[np.ndarray, "second width"]
) -> float:
    """Return the Frechet distance of normal distributions fitted to two sets (arXiv:1706.08500).

    On features of another network than Inception it is not what papers call FID; call it FD.
    Ask `frechet_refusal` first.
    """
    covariances = [
        np.cov(features.astype(np.float64), rowvar=False) for features in (first, second)
    ]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ covariances[1] @ root).clip(min=0)).sum()
    apart = first.mean(axis=0, dtype=np.float64) - second.mean(axis=0, dtype=np.float64)
    return float(apart @ apart + np.trace(covariances[0] + covariances[1]) - 2 * overlap)
