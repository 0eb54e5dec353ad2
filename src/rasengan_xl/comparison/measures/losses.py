"""Held-out loss, on the base that people use and on the one that was trained on."""

from collections.abc import Iterator

import numpy as np

from rasengan_xl.comparison.evidence import Evidence, Subject
from rasengan_xl.comparison.measures.sampling import Measured, Title, over_pictures

PRIMARY = "held_out_loss"
"""By which arms are told apart first: fixed before anything is measured."""


def measure_losses(evidence: Evidence) -> Iterator[Measured]:
    """Measure held-out loss."""
    on_full = Title(
        key=PRIMARY,
        label="Held-out loss",
        note="squared error of the predicted noise on pictures that were never trained on, the "
        "adapter on the unquantized base, over all timesteps of the table",
        direction="lower",
        group="loss",
    )
    base = evidence.base_losses_on_full
    yield from over_pictures(
        on_full,
        evidence,
        lambda subject: _mean_of_rows(subject.losses_on_full),
        {} if base is None else {None: base.mean(axis=1)},
    )
    on_own = Title(
        key="held_out_loss_trained_base",
        label="Held-out loss on the base it was trained on",
        note="In fewer bits for quantized arms; the same as above for the others",
        direction="lower",
        group="loss",
    )
    if any(subject.quantized for subject in evidence.subjects):
        yield from over_pictures(on_own, evidence, _own_losses)


def _own_losses(subject: Subject) -> np.ndarray | None:
    return None if subject.table is None else np.array(subject.table.adapted).mean(axis=1)


def _mean_of_rows(losses: np.ndarray | None) -> np.ndarray | None:
    return None if losses is None else losses.mean(axis=1)
