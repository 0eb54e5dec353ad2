"""Whether pictures show what their captions say."""

from collections.abc import Iterator

import numpy as np

from rasengan_xl.comparison.evidence import Evidence, Subject
from rasengan_xl.comparison.measures.sampling import Measured, Title, over_pictures
from rasengan_xl.mini.reader.loading import lowest_accuracy


def measure_captions(evidence: Evidence) -> Iterator[Measured]:
    """Measure prompt fidelity, and what only the mini world can tell exactly."""
    clip = Title(
        key="clip_score",
        label="CLIP score",
        note="100 times the cosine of picture and caption, as CLIP sees them",
        direction="higher",
        group="captions",
    )

    def clip_of(subject: Subject) -> np.ndarray | None:
        known = subject.examined.clip_scores if subject.examined else None
        return None if known is None else np.array(known)

    yield from over_pictures(clip, evidence, clip_of, key="scored")
    style = Title(
        key="style_share",
        label="In the style",
        note="share of the drawn pictures that the attribute reader takes for shinobi",
        direction="higher",
        group="captions",
        is_share=True,
    )

    def style_of(subject: Subject) -> np.ndarray | None:
        known = subject.examined.in_style if subject.examined else None
        return None if known is None else np.array(known, dtype=float)

    yield from over_pictures(style, evidence, style_of, key="scored")
    fidelity = Title(
        key="caption_fidelity",
        label="Caption fidelity",
        note="share of the attributes that a caption names which its picture shows, by a reader "
        f"that is right on at least {lowest_accuracy():.1%} of held-out portraits",
        direction="higher",
        group="captions",
        is_share=True,
    )
    yield from over_pictures(fidelity, evidence, _fidelity, key="scored")
    for attribute in _attributes(evidence):
        yield from _one_attribute(attribute, evidence)


def _fidelity(subject: Subject) -> np.ndarray | None:
    known = subject.examined.named_rightly if subject.examined else None
    if known is None:
        return None
    rows = np.array(list(known.values()), dtype=float)  # None becomes nan
    return np.nanmean(rows, axis=0)


def _attributes(evidence: Evidence) -> list[str]:
    examined = evidence.base.examined
    return list(examined.named_rightly or ()) if examined else []


def _one_attribute(attribute: str, evidence: Evidence) -> Iterator[Measured]:
    title = Title(
        key=f"fidelity_{attribute}",
        label=f"Caption fidelity: {attribute.replace('_', ' ')}",
        note="share of the pictures that show what their caption names",
        direction="higher",
        group="captions",
        is_share=True,
    )

    def rightly(subject: Subject) -> np.ndarray | None:
        known = subject.examined.named_rightly if subject.examined else None
        if known is None:
            return None
        return np.array([value for value in known[attribute] if value is not None], dtype=float)

    yield from over_pictures(title, evidence, rightly, key=f"scored {attribute}")
