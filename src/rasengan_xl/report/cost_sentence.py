"""The second sentence of the answer: which arms are the cheapest, and what the dearest takes."""

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.evaluation.records import Measure
from rasengan_xl.report.arms import find_memory, find_time
from rasengan_xl.report.numbers import (
    write_seed_counts,
    write_times,
    write_with_interval,
    write_within,
)

_ALL = "all arms"


def write_cost(comparison: Comparison) -> str:
    """Say what memory and time the arms take; empty where neither was measured of two arms."""
    measures = (find_memory(comparison), find_time(comparison))
    claims = ("trains in the least memory", "is the fastest")
    parts = [_name_cheapest(m, claim) for m, claim in zip(measures, claims, strict=True)]
    seeds = sorted({each.seeds for m in measures if m for each in m.arms.values()})
    text = "; ".join(part for part in parts if part)
    if text.startswith(_ALL):  # the name of an arm keeps its case
        text = _ALL.capitalize() + text.removeprefix(_ALL)
    return f"{text} ({write_seed_counts(seeds)})." if text else ""


def _name_cheapest(measure: Measure | None, claim: str) -> str:
    if measure is None or len(measure.arms) < 2:
        return ""
    by_value = sorted(measure.arms, key=lambda name: measure.arms[name].value)
    least, most = by_value[0], by_value[-1]
    low, high = measure.arms[least].value, measure.arms[most].value
    if low <= 0:
        return ""
    if high < low * 1.01:
        label = write_within(measure.label)
        return f"{_ALL} are within 1\N{NO-BREAK SPACE}% of each other in {label}"
    few, much = (
        write_with_interval(each.value, each.low, each.high, measure.unit)
        for each in (measure.arms[least], measure.arms[most])
    )
    times = write_times(high / low)
    return f"{least} {claim}, {few}{_per(measure)}, and {most} takes {times} as much, {much}"


def _per(measure: Measure) -> str:
    if "training" in measure.key and measure.unit == "s":
        return " of training"
    unit = next((word for word in ("picture", "image", "step") if word in measure.key), None)
    return f" a {unit}" if unit and measure.unit == "s" else ""
