"""What drawn pictures are like: near the style, unlike each other, not copied, little drifted."""

from collections.abc import Callable, Iterator

import numpy as np

from rasengan_xl.comparison.evidence import Evidence, Subject
from rasengan_xl.comparison.measures.sampling import (
    Measured,
    Title,
    by_arm,
    over_pictures,
    weights_of,
)
from rasengan_xl.evaluation.distances import (
    Kernels,
    cmmd_kernels,
    cosine_distances,
    drift,
    kid_kernels,
)
from rasengan_xl.evaluation.resampling import SMALLEST_SET
from rasengan_xl.evaluation.samples import Sampled, sample_discrepancies, sample_diversities

_DISTANCES = (("cmmd", "CMMD", cmmd_kernels), ("kid", "KID", kid_kernels))
_LEFT_OUT = frozenset({("kid", "reader")})
"""KID's kernel is made for features of about unit size; the reader's are large."""
ENCODERS = {"clip": "CLIP", "dino": "DINOv2", "reader": "attribute reader"}


def measure_pictures(evidence: Evidence) -> Iterator[Measured]:
    """Measure what the encoders say of drawn pictures."""
    for encoder in evidence.encoders:
        name = ENCODERS[encoder]
        for key, label, kernels in _DISTANCES:
            if (key, encoder) in _LEFT_OUT:
                continue
            title = Title(
                key=f"{key}_{encoder}",
                label=f"{label}, {name}",
                note=f"distance of the drawn pictures from the held-out ones: {label}'s kernel, "
                f"times 1,000, on features of the {name}; unbiased, so that it may be below nought",
                direction="lower",
                group="pictures",
            )
            yield from _discrepancies(title, encoder, kernels, evidence)
        yield from _diversities(encoder, name, evidence)
        yield from _drifts(encoder, name, evidence)
    yield from _memorisation(evidence)


def _discrepancies(
    title: Title,
    encoder: str,
    kernels_of: Callable[[np.ndarray, np.ndarray], Kernels],
    evidence: Evidence,
) -> Iterator[Measured]:
    held_out = evidence.reference_features[encoder]["held_out"]

    def sample(subjects: list[Subject]) -> Sampled | None:
        drawn = {s.seed: s.features[encoder]["scored"] for s in subjects if encoder in s.features}
        if not drawn or min(len(held_out), *map(len, drawn.values())) < SMALLEST_SET:
            return None
        count = len(next(iter(drawn.values())))
        return sample_discrepancies(
            {seed: kernels_of(features, held_out) for seed, features in drawn.items()},
            weights_of(count, "scored"),
            weights_of(len(held_out), "reference"),
        )

    yield from by_arm(title, evidence, sample)


def _diversities(encoder: str, name: str, evidence: Evidence) -> Iterator[Measured]:
    title = Title(
        key=f"diversity_{encoder}",
        label=f"Diversity, {name}",
        note="mean cosine distance of two drawn pictures of different captions",
        direction="neither",
        group="pictures",
    )

    def sample(subjects: list[Subject]) -> Sampled | None:
        drawn = {s.seed: s.features[encoder]["scored"] for s in subjects if encoder in s.features}
        if not drawn or min(map(len, drawn.values())) < SMALLEST_SET:
            return None
        count = len(next(iter(drawn.values())))
        distances = {seed: cosine_distances(features) for seed, features in drawn.items()}
        return sample_diversities(distances, weights_of(count, "scored"))

    yield from by_arm(title, evidence, sample)


def _drifts(encoder: str, name: str, evidence: Evidence) -> Iterator[Measured]:
    base = evidence.base.features.get(encoder, {}).get("neutral")
    if base is None:
        return
    title = Title(
        key=f"drift_{encoder}",
        label=f"Drift, {name}",
        note="cosine distance from the base's picture of the same neutral prompt and noise",
        direction="lower",
        group="pictures",
    )

    def drift_of(subject: Subject) -> np.ndarray | None:
        neutral = subject.features.get(encoder, {}).get("neutral")
        return None if neutral is None else drift(neutral, base)

    # The base's own drift is nought by definition.
    yield from over_pictures(title, evidence, drift_of, base={}, key="neutral")


def _memorisation(evidence: Evidence) -> Iterator[Measured]:
    title = Title(
        key="nearest_training",
        label="Likeness to the nearest training picture",
        note=_tell_yardstick(evidence),
        direction="neither",
        group="pictures",
    )

    def similarities(subject: Subject) -> np.ndarray | None:
        known = subject.examined.similarities if subject.examined else None
        return None if known is None else np.array(known)

    yield from over_pictures(title, evidence, similarities, key="scored")


def _tell_yardstick(evidence: Evidence) -> str:
    likeness = evidence.reference.held_out_similarities if evidence.reference else None
    told = "cosine of the features of a drawn picture and the training picture most like it"
    if not likeness:
        return told
    return f"{told}; for a held-out picture it is {np.mean(likeness):.3f} (n = {len(likeness)})"
