"""Figures beside the table: both bases, equal time, learning rates, parameters; written out."""

from dataclasses import dataclass

from rasengan_xl.comparison.result import ArmResult, Comparison, SweepTrial
from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.evaluation.records import OnBothBases
from rasengan_xl.report.arms import place_arms
from rasengan_xl.report.measure_table import Cell, write_cell
from rasengan_xl.report.numbers import (
    half_width,
    write_bytes,
    write_count,
    write_difference,
    write_duration,
    write_flops,
    write_interval,
    write_n,
    write_sample,
    write_share,
    write_value,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BothBases:
    """One adapter, or none, on a base in fewer bits and on the unquantized one."""

    name: str
    stored: str
    """How that base is stored."""
    on_quantized: Cell
    on_full: Cell
    difference: str
    interval: str
    sample: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AtTime:
    """Where an arm stood when the time was up."""

    name: str
    steps: str
    loss: str
    interval: str
    sample: str


def list_both_bases(comparison: Comparison) -> list[BothBases]:
    """Write out what storing the base in fewer bits does; the difference is full less that."""
    effect = comparison.quantization
    if effect is None:
        return []
    rows = [("no adapter", base) for base in effect.bases]
    rows += [(name, effect.arms[name]) for name in place_arms(comparison) if name in effect.arms]
    return [_write_both(name, row) for name, row in rows]


def _write_both(name: str, row: OnBothBases) -> BothBases:
    low, high = row.difference.low, row.difference.high
    return BothBases(
        name=name,
        stored=STORAGES[row.base_precision].title,
        on_quantized=write_cell(row.on_quantized),
        on_full=write_cell(row.on_full),
        difference=write_difference(row.difference.value, "", half_width(low, high)),
        interval=write_interval(low, high),
        sample=write_sample(row.difference.pictures, row.difference.seeds),
    )


def list_at_equal_time(comparison: Comparison) -> tuple[str, list[AtTime]]:
    """Write out the time, and where each arm stood."""
    equal = comparison.equal_time
    if equal is None:
        return "", []
    return write_duration(equal.seconds), [
        AtTime(
            name=name,
            steps=write_count(round(at.steps)),
            loss=write_value(at.loss, "", half_width(at.low, at.high)),
            interval=write_interval(at.low, at.high) or "no interval: one seed",
            sample=f"{write_sample(0, at.seeds)}, {write_count(at.n)} entries each",
        )
        for name, at in equal.arms.items()
    ]


def describe_trial(trial: SweepTrial) -> str:
    """Say what came of a learning rate: loss, standard error and n, or why there is none."""
    if trial.tuning_loss is None:
        return f"failed: {trial.reason or 'no reason was recorded'}"
    error = trial.standard_error
    spread = f" \N{PLUS-MINUS SIGN} {write_value(error, reach=error)}" if error else ""
    n = f", {write_n(trial.n)}" if trial.n is not None else ""
    return f"{write_value(trial.tuning_loss, '', error)}{spread}{n}"


def list_sizes(arm: ArmResult) -> dict[str, str]:
    """Write out what is exact of an arm, and so has no interval."""
    sizes: dict[str, str] = {}
    if arm.trainable_parameters is not None:
        total = arm.total_parameters
        share = f" ({write_share(arm.trainable_parameters / total)})" if total else ""
        count = write_count(arm.trainable_parameters)
        if arm.given is None:
            sizes["Trainable parameters"] = count + share
        else:
            sizes["Given, not trained here"] = f"{arm.given}; {count} parameters{share}"
    if arm.adapter_bytes is not None:
        sizes["Adapter file"] = write_bytes(arm.adapter_bytes)
    if arm.flops_per_step is not None:
        sizes["Arithmetic per step"] = write_flops(arm.flops_per_step)
    return sizes
