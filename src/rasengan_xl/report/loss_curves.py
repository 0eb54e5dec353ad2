"""The training losses of all runs, smoothed alike, and their mean over seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from rasengan_xl.comparison.result import ArmResult, Comparison
from rasengan_xl.report.reading import LossHistory

MOST_POINTS = 240
"""Points of one line that are drawn; more would make the page heavy and not plainer."""
SMOOTHED_SHARE = 0.08
"""Part of the longest run's steps that a line averages over."""

Losses = Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCurves:
    """The losses of one arm by step: a line for each seed, and the mean where all have a step."""

    name: str
    index: int
    seeds: dict[int, Losses]
    mean: Losses
    errors: Losses = field(default_factory=dict[int, float])
    """Standard errors of the mean, where it is of few points that can bear them."""


def gather_curves(
    comparison: Comparison, histories: Mapping[str, LossHistory], *, less_first: bool = False
) -> list[ArmCurves]:
    """Gather the losses of every arm that has any, as they were measured.

    Args:
        comparison: Names arms and runs.
        histories: By the folder of the run.
        less_first: Whether each run's losses are to be less those of the first arm's run with
            the same seed; the first arm is left out then, and so are runs that were not shown
            the same as it, by their trace hashes.
    """
    raw = [
        {run.seed: dict(histories[run.run].losses) for run in arm.runs if histories[run.run].losses}
        for arm in comparison.arms
    ]
    if less_first and raw:
        raw = _subtract_first(comparison, raw)
    return _name_curves(comparison, raw)


def _name_curves(comparison: Comparison, found: Sequence[Mapping[int, Losses]]) -> list[ArmCurves]:
    return [
        ArmCurves(name=arm.name, index=index, seeds=dict(seeds), mean=average(list(seeds.values())))
        for index, (arm, seeds) in enumerate(zip(comparison.arms, found, strict=True))
        if seeds
    ]


def _subtract_first(
    comparison: Comparison, raw: Sequence[Mapping[int, Losses]]
) -> list[dict[int, dict[int, float]]]:
    traces = [_trace(arm) for arm in comparison.arms]
    paired = [
        {seed: run for seed, run in seeds.items() if _paired(trace, traces[0], seed)}
        for seeds, trace in zip(raw[1:], traces[1:], strict=True)
    ]
    return [{}, *(subtract_seeds(seeds, raw[0]) for seeds in paired)]


def _trace(arm: ArmResult) -> dict[int, str]:
    hashes = {run.seed: run.summary.trace_hash for run in arm.finished if run.summary}
    return {seed: trace for seed, trace in hashes.items() if trace is not None}


def _paired(trace: Mapping[int, str], reference: Mapping[int, str], seed: int) -> bool:
    return seed in trace and trace[seed] == reference.get(seed)


def subtract_seeds(
    seeds: Mapping[int, Losses], reference: Mapping[int, Losses]
) -> dict[int, dict[int, float]]:
    """Return each seed's difference from the reference at the steps that both have."""
    differences = {
        seed: {
            step: loss - reference[seed][step]
            for step, loss in losses.items()
            if step in reference[seed]
        }
        for seed, losses in seeds.items()
        if seed in reference
    }
    return {seed: losses for seed, losses in differences.items() if losses}


def gather_checkpoints(comparison: Comparison) -> list[ArmCurves]:
    """Gather the held-out losses on the way of every arm that has any.

    All seeds are judged by the same pictures, so that errors over pictures do not average out: of
    the mean over seeds, it is taken as the mean of theirs.
    """
    found = [
        {
            run.seed: {point.step: point.loss for point in run.checkpoints}
            for run in arm.runs
            if run.checkpoints
        }
        for arm in comparison.arms
    ]
    curves = _name_curves(comparison, found)
    return [replace(curve, errors=_gather_errors(comparison.arms[curve.index])) for curve in curves]


def _gather_errors(arm: ArmResult) -> dict[int, float]:
    runs = [
        {point.step: point.standard_error for point in run.checkpoints}
        for run in arm.runs
        if run.checkpoints
    ]
    return average(runs)


def average(runs: Sequence[Losses]) -> dict[int, float]:
    """Return the mean over runs of every step that the longest runs share.

    A run that ended early is left out: with it, the mean would jump where it ends.
    """
    if not runs:
        return {}
    longest = max(max(run) for run in runs)
    whole = [run for run in runs if max(run) == longest]
    shared = [step for step in whole[0] if all(step in run for run in whole)]
    return {step: sum(run[step] for run in whole) / len(whole) for step in shared}


def choose_window(curves: Sequence[ArmCurves]) -> int:
    """Return how many steps the lines average over: odd, so that it is centred."""
    longest = max((len(run) for arm in curves for run in arm.seeds.values()), default=0)
    return 2 * int(longest * SMOOTHED_SHARE / 2) + 1


def smooth(losses: Losses, window: int) -> dict[int, float]:
    """Average each value with its neighbours, twice: once leaves a line ragged."""
    once = _average_near(list(losses.values()), window // 2)
    return dict(zip(losses, _average_near(once, window // 2), strict=True))


def find_range(lines: Sequence[Losses]) -> tuple[float, float, bool]:
    """Return a range for an axis, and whether lines leave it.

    The few values of a run that diverges would make all others a flat line; a range that is more
    than doubled by the topmost hundredth of the values leaves them out.
    """
    values = sorted(value for line in lines for value in line.values())
    low, most, high = values[0], values[math.ceil(0.99 * (len(values) - 1))], values[-1]
    leaves = high - low > 2 * (most - low) > 0
    top = most if leaves else high
    room = (top - low) * 0.06 or abs(top) * 0.1 or 1.0
    return low - room, top + room, leaves


def thin(losses: Losses) -> tuple[list[int], list[float]]:
    """Return evenly spaced points, the last among them."""
    points = list(losses.items())
    stride = -(-len(points) // MOST_POINTS) or 1
    kept = points[::-1][::stride][::-1]
    return [step for step, _ in kept], [loss for _, loss in kept]


def _average_near(values: Sequence[float], reach: int) -> list[float]:
    """Return the mean within reach of every place; there is less in reach at both ends."""
    sums = [0.0, *accumulate(values)]
    bounds = [
        (max(0, place - reach), min(len(values), place + reach + 1)) for place in range(len(values))
    ]
    return [(sums[end] - sums[start]) / (end - start) for start, end in bounds]
