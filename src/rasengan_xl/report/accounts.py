"""What did not go as planned: failed runs, second attempts, missing encoders, notes."""

import math
from dataclasses import dataclass
from pathlib import Path

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.report.numbers import write_count, write_counted
from rasengan_xl.report.reading import has_own_losses
from rasengan_xl.report.sameness import find_broken_seeds
from rasengan_xl.runs.records import DatasetFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One thing that went wrong, or was left out."""

    what: str
    why: str
    alarm: bool = False


def list_incidents(comparison: Comparison) -> list[Incident]:
    """List alarms first, then retries, then what was left out."""
    runs = [(arm.name, run) for arm in comparison.arms for run in arm.runs]
    failed = [
        Incident(
            what=f"{name}, seed {run.seed}: failed",
            why=run.reason or "No reason was recorded.",
            alarm=True,
        )
        for name, run in runs
        if run.status == "failed"
    ]
    broken = [
        Incident(
            what=f"Seed {seed}: runs were not shown the same",
            why="Their trace hashes differ where they ought to agree, so a difference between "
            "their arms need not come from the methods.",
            alarm=True,
        )
        for seed in find_broken_seeds(comparison.arms, comparison.seeds)
    ]
    missing = [
        Incident(
            what=f"{name}, seed {run.seed}: not trained",
            why="The comparison was finished without it.",
            alarm=True,
        )
        for name, run in runs
        if run.status == "missing" and comparison.status == "finished"
    ]
    retried = [
        Incident(
            what=f"{name}, seed {run.seed}: {run.attempts} attempts",
            why="Its worker was lost, and the run was continued from its last checkpoint.",
        )
        for name, run in runs
        if run.attempts > 1
    ]
    absent = [
        Incident(what=f"{encoder.key} encoder left out", why=encoder.absent)
        for encoder in comparison.encoders
        if encoder.absent is not None
    ]
    notes = [Incident(what="Note", why=note) for note in comparison.notes]
    return [*broken, *failed, *missing, *retried, *absent, *notes]


def list_outside(comparison: Comparison, folder: Path) -> list[Incident]:
    """List the runs whose losses were not read, since they are not in the comparison's folder."""
    return [
        Incident(
            what=f"{arm.name}, seed {run.seed}: losses not read",
            why=f"{run.run} is not within the comparison's folder.",
            alarm=True,
        )
        for arm in comparison.arms
        for run in arm.runs
        if not has_own_losses(folder, run.run)
    ]


def describe_progress(comparison: Comparison) -> str:
    """Say how many runs there are, and how many came to their end."""
    runs = [run for arm in comparison.arms for run in arm.runs]
    finished = sum(run.status == "finished" for run in runs)
    failed = sum(run.status == "failed" for run in runs)
    text = f"{finished} of {write_counted(len(runs), 'run')} finished"
    missing = sum(run.status == "missing" for run in runs)
    if failed:
        text += f", {failed} failed"
    return f"{text}, {missing} not trained" if missing and comparison.status == "finished" else text


def describe_comparison(comparison: Comparison) -> str:
    """Say in one sentence what was compared, on what."""
    given = sum(arm.given is not None for arm in comparison.arms)
    if given == len(comparison.arms):
        return _describe_given(comparison, given)
    trained = write_counted(len(comparison.arms) - given, "way")
    ways = f"{trained} of fine-tuning {comparison.base_model}"
    seeds = write_counted(len(comparison.seeds), "training seed")
    data = comparison.dataset
    if data is None:
        return f"{ways}, {seeds} each; none came far enough to say on which pictures."
    beside = f"; beside {write_counted(given, 'adapter')} not trained here" if given else ""
    return (
        f"{ways}, {seeds} each, trained on the same {write_counted(data.train, 'picture')} from "
        f"{data.source}{beside}; {write_count(data.held_out)} more were held out to judge them by"
        f"{_describe_part(comparison, data)}."
    )


def _describe_given(comparison: Comparison, given: int) -> str:
    adapters = f"{write_counted(given, 'adapter')} for {comparison.base_model}, not trained here"
    data = comparison.dataset
    if data is None:
        return f"{adapters}; none came far enough to say on which pictures it was judged."
    return (
        f"{adapters}, judged by {write_counted(data.held_out, 'held-out picture')} from "
        f"{data.source}{_describe_part(comparison, data)}."
    )


def _describe_part(comparison: Comparison, data: DatasetFacts) -> str:
    """Say over how many held-out pictures the loss is, if not over all."""
    measured = _count_measured(comparison)
    if measured >= data.held_out:
        return ""
    return f"; the loss is over {write_count(int(measured))} of them"


def _count_measured(comparison: Comparison) -> float:
    """Return over how many held-out pictures the loss is; infinite where none was taken."""
    losses = (measure for measure in comparison.measures if measure.group == "loss")
    counts = [each.pictures for measure in losses for each in measure.arms.values()]
    return max(counts, default=math.inf)
