"""Proof that the runs of one seed were shown the same: their trace hashes, side by side."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rasengan_xl.comparison.result import ArmResult
from rasengan_xl.report.settings import flatten, write_setting

LETTERS = 8
"""Of a hash, as the page shows it; the whole one stands in `runs.csv`."""
_SHOWN_BY = ("dataset.", "caption.", "objective.timestep", "objective.noise", "training.steps")
"""Settings that decide what a run is shown, or parts of their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedTraces:
    """The hashes of one seed, by arm, and what they prove."""

    seed: int
    hashes: dict[str, str]
    verdict: str
    agree: bool | None
    """None: fewer than two runs that ought to agree have a hash."""


def compare_traces(arms: Sequence[ArmResult], seeds: Sequence[int]) -> list[SeedTraces]:
    """Compare the hashes of each seed, among arms whose settings ask for equal batches."""
    groups = {arm.name: _name_batches(arm) for arm in arms}
    return [_compare(arms, seed, groups) for seed in seeds]


def find_broken_seeds(arms: Sequence[ArmResult], seeds: Sequence[int]) -> list[int]:
    """Return the seeds whose runs were not shown the same, though they ought to have been."""
    return [trace.seed for trace in compare_traces(arms, seeds) if trace.agree is False]


def _compare(arms: Sequence[ArmResult], seed: int, groups: dict[str, str]) -> SeedTraces:
    hashes = {
        arm.name: run.summary.trace_hash
        for arm in arms
        for run in arm.finished
        if run.seed == seed and run.summary is not None and run.summary.trace_hash is not None
    }
    sizes = Counter(groups[name] for name in hashes)
    distinct = {group: {hashes[n] for n in hashes if groups[n] == group} for group in sizes}
    if all(size < 2 for size in sizes.values()):
        agree, verdict = None, "fewer than two to compare"
    elif any(len(found) > 1 for found in distinct.values()):
        agree, verdict = False, "do not agree: these runs were not shown the same"
    else:
        agree = True
        verdict = f"all {len(hashes)} agree"
        if len(sizes) > 1:
            verdict = f"agree within each of {len(sizes)} groups of equal batch settings"
    return SeedTraces(seed=seed, hashes=hashes, verdict=verdict, agree=agree)


def _name_batches(arm: ArmResult) -> str:
    """Return what an arm's settings say of its batches, as text that can be compared."""
    flat = flatten(arm.settings)
    shown = {key: value for key, value in flat.items() if key.startswith(_SHOWN_BY)}
    batch = flat.get("training.batch_size", 1) * flat.get("training.accumulation", 1)
    return write_setting([f"{key}={value}" for key, value in sorted(shown.items())]) + f" x{batch}"
