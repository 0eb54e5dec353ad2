"""Held-out loss timestep by timestep, and what storing the base in NF4 does to it."""

from collections.abc import Mapping

import numpy as np

from rasengan_xl.comparison.evidence import Evidence
from rasengan_xl.comparison.measures.sampling import weights_of
from rasengan_xl.evaluation.intervals import estimate, estimate_difference
from rasengan_xl.evaluation.records import (
    AdapterOnBothBases,
    Estimate,
    QuantizationEffect,
    StratumLoss,
)
from rasengan_xl.evaluation.samples import Sampled, Seed, sample_means

Rows = Mapping[Seed, np.ndarray]
"""By training seed, [picture, timestep]."""


def split_by_timestep(evidence: Evidence) -> list[StratumLoss]:
    """Return the held-out loss at every timestep of the table, of the base and of every arm."""
    base = evidence.base_losses_on_full
    if base is None or not evidence.subjects:
        return []
    timesteps = next(s.table.timesteps for s in evidence.subjects if s.table is not None)
    losses = {arm: _losses_on_full(evidence, arm) for arm in evidence.arms}
    losses = {arm: rows for arm, rows in losses.items() if rows}
    return [
        _stratum(timestep, column, {None: base}, losses)
        for column, timestep in enumerate(timesteps)
    ]


def find_quantization_effect(evidence: Evidence) -> QuantizationEffect | None:
    """Return what NF4 does without an adapter, and to the adapters trained on it.

    Returns:
        Nothing where no arm was trained on NF4, or its losses on both bases are not known yet.
    """
    full, nf4 = evidence.base_losses_on_full, evidence.base_losses_on_nf4
    if full is None or nf4 is None:
        return None
    quantized = {subject.arm for subject in evidence.subjects if subject.quantized}
    in_order = [arm for arm in evidence.arms if arm in quantized]
    arms = {arm: found for arm in in_order if (found := _on_both(evidence, arm)) is not None}
    on_full, on_nf4 = _sample({None: full}), _sample({None: nf4})
    return QuantizationEffect(
        base_full=estimate(on_full),
        base_nf4=estimate(on_nf4),
        base_difference=_difference(on_full, on_nf4),
        arms=arms,
    )


def _stratum(timestep: int, column: int, base: Rows, losses: Mapping[str, Rows]) -> StratumLoss:
    def at(rows: Rows) -> Sampled:
        return _sample({seed: values[:, [column]] for seed, values in rows.items()})

    samples = {arm: at(rows) for arm, rows in losses.items()}
    of_base = at(base)
    return StratumLoss(
        timestep=timestep,
        base=estimate(of_base),
        arms={arm: estimate(sampled) for arm, sampled in samples.items()},
        differences={arm: _difference(sampled, of_base) for arm, sampled in samples.items()},
    )


def _losses_on_full(evidence: Evidence, arm: str) -> Rows:
    found = {subject.seed: subject.losses_on_full for subject in evidence.of(arm)}
    return {seed: rows for seed, rows in found.items() if rows is not None}


def _on_both(evidence: Evidence, arm: str) -> AdapterOnBothBases | None:
    on_full = _losses_on_full(evidence, arm)
    on_nf4 = {
        subject.seed: np.array(subject.table.adapted)
        for subject in evidence.of(arm)
        if subject.table is not None and subject.seed in on_full
    }
    if not on_full or not on_nf4:
        return None
    nf4, full = _sample(on_nf4), _sample(on_full)
    return AdapterOnBothBases(
        on_nf4=estimate(nf4), on_full=estimate(full), difference=_difference(full, nf4)
    )


def _sample(rows: Rows) -> Sampled:
    means = {seed: values.mean(axis=1) for seed, values in rows.items()}
    return sample_means(means, weights_of(len(next(iter(means.values()))), "held out"))


def _difference(first: Sampled, second: Sampled) -> Estimate:
    found = estimate_difference(first, second)
    assert found is not None, "both are of the same seeds, or the second is of the base"
    return found
