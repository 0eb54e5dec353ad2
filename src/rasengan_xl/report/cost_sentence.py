"""The second sentence of the answer: which arms are the cheapest, and what the dearest takes."""

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.evaluation.records import Estimate, Measure
from rasengan_xl.report.arms import find_memory, find_time, list_verdicts
from rasengan_xl.report.numbers import (
    list_names,
    write_digits,
    write_seed_counts,
    write_times,
    write_with_interval,
)

ALIKE = 1.01
"""Arms whose cost is within this factor of the least are named together."""


def write_cost(comparison: Comparison) -> str:
    """Say what memory and time the arms take; empty where neither was measured of two arms."""
    memory, time = find_memory(comparison), find_time(comparison)
    # Where arms ran on unlike devices, their costs say nothing of each other.
    costs = [c for c in (memory, time) if c and c.direction != "neither" and len(c.arms) > 1]
    parts = [_describe(comparison, cost, is_time=cost is time) for cost in costs]
    text = "; ".join(part for part in parts if part)
    if not text:
        return ""
    seeds = sorted({each.seeds for cost in costs for each in cost.arms.values()})
    # A name keeps its case, so that words of ours stand first.
    start = "In this one run of each arm, " if seeds == [1] else "By the means of all runs, "
    return f"{start}{text} ({write_seed_counts(seeds)})."


def _describe(comparison: Comparison, cost: Measure, *, is_time: bool) -> str:
    by_value = sorted(cost.arms, key=lambda name: cost.arms[name].value)
    least, most = (cost.arms[name] for name in (by_value[0], by_value[-1]))
    if least.value <= 0:
        return ""
    tied = _find_tied(comparison, cost, by_value[0])
    cheapest = [name for name in by_value if name in tied or _is_alike(cost.arms[name], least)]
    thing = "training time" if is_time else _name_memory(comparison)
    if len(cheapest) == len(by_value):
        arm = "trained arm" if any(each.given is not None for each in comparison.arms) else "arm"
        if _is_alike(most, least):
            return f"in {thing} all {arm}s are within 1\N{NO-BREAK SPACE}% of each other"
        return f"in {thing} no {arm} could be told from the one that takes the least"
    named = [name for name in cost.arms if name in cheapest]
    few = _write_range([cost.arms[name] for name in cheapest], cost)
    times = write_times(most.value / least.value)
    return (
        f"{list_names(named)} {_claim(thing, len(named), is_time=is_time)}, {few}{_per(cost)}, "
        f"and {by_value[-1]} takes {times} as much, {_write(most, cost)}"
    )


def _find_tied(comparison: Comparison, cost: Measure, least: str) -> set[str]:
    """Return the arms that verdicts did not tell from the cheapest."""
    return {
        name
        for verdict in list_verdicts(comparison, cost.key)
        if verdict.outcome == "no detectable difference"
        and least in (verdict.first, verdict.second)
        for name in (verdict.first, verdict.second)
    }


def _is_alike(each: Estimate, least: Estimate) -> bool:
    return each.value < least.value * ALIKE


def _claim(thing: str, number: int, *, is_time: bool) -> str:
    if is_time:
        return "is the fastest" if number == 1 else "are the fastest"
    return f"{'takes' if number == 1 else 'take'} the least {thing}"


def _name_memory(comparison: Comparison) -> str:
    kinds = {run.summary.memory_kind for arm in comparison.arms for run in arm.runs if run.summary}
    whole = kinds - {None} == {"process resident"}
    return "memory of the training process" if whole else "training memory"


def _write_range(estimates: list[Estimate], cost: Measure) -> str:
    ends = [_write(estimate, cost) for estimate in (estimates[0], estimates[-1])]
    return " to ".join(dict.fromkeys(ends))


def _write(estimate: Estimate, cost: Measure) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{write_digits(estimate.value)}\N{NO-BREAK SPACE}{cost.unit}"
    return write_with_interval(estimate.value, estimate.low, estimate.high, cost.unit)


def _per(measure: Measure) -> str:
    if "training" in measure.key and measure.unit == "s":
        return " of training"
    unit = next((word for word in ("picture", "image", "step") if word in measure.key), None)
    return f" a {unit}" if unit and measure.unit == "s" else ""
