"""Held-out loss timestep by timestep, and what storing the base in fewer bits does to it."""

from collections.abc import Mapping

import numpy as np

from rasengan_xl.comparison.evidence import Evidence
from rasengan_xl.comparison.measures.sampling import weights_of
from rasengan_xl.config.base_precisions import BasePrecision
from rasengan_xl.evaluation.intervals import estimate, estimate_difference
from rasengan_xl.evaluation.records import (
    Estimate,
    OnBothBases,
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
    """Return what fewer bits do without an adapter, and to the adapters trained on them.

    Returns:
        Nothing where no arm was trained on a quantized base, or its losses on both are not known.
    """
    full, quantized = evidence.base_losses_on_full, evidence.quantized_base_losses
    if full is None or not quantized:
        return None
    bases = [
        _on_both({None: losses}, {None: full}, precision) for precision, losses in quantized.items()
    ]
    arms = {arm: found for arm in evidence.arms if (found := _arm_on_both(evidence, arm))}
    return QuantizationEffect(bases=bases, arms=arms)


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


def _arm_on_both(evidence: Evidence, arm: str) -> OnBothBases | None:
    on_full = _losses_on_full(evidence, arm)
    on_quantized = {
        subject.seed: np.array(subject.table.adapted)
        for subject in evidence.of(arm)
        if subject.quantized and subject.table is not None and subject.seed in on_full
    }
    if not on_full or not on_quantized:
        return None
    return _on_both(on_quantized, on_full, next(evidence.of(arm)).base_precision)


def _on_both(quantized: Rows, full: Rows, precision: BasePrecision) -> OnBothBases:
    on_quantized, on_full = _sample(quantized), _sample(full)
    return OnBothBases(
        base_precision=precision,
        on_quantized=estimate(on_quantized),
        on_full=estimate(on_full),
        difference=_difference(on_full, on_quantized),
    )


def _sample(rows: Rows) -> Sampled:
    means = {seed: values.mean(axis=1) for seed, values in rows.items()}
    return sample_means(means, weights_of(len(next(iter(means.values()))), "held out"))


def _difference(first: Sampled, second: Sampled) -> Estimate:
    found = estimate_difference(first, second)
    assert found is not None, "both are of the same seeds, or the second is of the base"
    return found
