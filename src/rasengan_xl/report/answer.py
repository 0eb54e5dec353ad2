"""The answer of a comparison in two sentences: what it found, how surely, and what it cost."""

from dataclasses import dataclass

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.evaluation.records import Estimate, Measure
from rasengan_xl.report.arms import find_primary, list_verdicts
from rasengan_xl.report.cost_sentence import write_cost
from rasengan_xl.report.finding import describe_ranking
from rasengan_xl.report.numbers import (
    list_names,
    write_counted,
    write_sample,
    write_with_interval,
    write_within,
)
from rasengan_xl.report.ranking import rank
from rasengan_xl.report.sameness import find_broken_seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to read first."""

    finding: str
    """Begins with a warning, where the runs of a seed were not shown the same."""
    cost: str
    """Empty where nothing was measured."""
    judged: bool
    """Whether arms were set against each other at all."""


def write_answer(comparison: Comparison) -> Answer:
    """Say what a comparison found, as far as its figures bear it."""
    cost = write_cost(comparison)
    primary = find_primary(comparison)
    if primary is None or not primary.arms:
        return Answer(finding=_explain_absence(comparison), cost=cost, judged=False)
    verdicts = list_verdicts(comparison, primary.key)
    ranking = rank(verdicts)
    if ranking.judged:
        finding = describe_ranking(ranking, primary, verdicts)
    else:
        finding = _describe_unjudged(comparison, primary)
    sentences = (_warn(comparison), finding, _name_unmeasured(comparison, primary))
    return Answer(finding=" ".join(filter(None, sentences)), cost=cost, judged=ranking.judged)


def _warn(comparison: Comparison) -> str:
    broken = [str(seed) for seed in find_broken_seeds(comparison.arms, comparison.seeds)]
    if not broken:
        return ""
    seeds = f"seed {broken[0]}" if len(broken) == 1 else f"seeds {list_names(broken)}"
    return (
        f"Beware: runs of {seeds} were not shown the same pictures and noise, so differences "
        "between arms need not come from the methods."
    )


def _name_unmeasured(comparison: Comparison, primary: Measure) -> str:
    absent = [arm.name for arm in comparison.arms if arm.name not in primary.arms]
    if not absent:
        return ""
    verb = "was" if len(absent) == 1 else "were"
    return f"{list_names(absent)} {verb} not measured."


def _explain_absence(comparison: Comparison) -> str:
    runs = [run for arm in comparison.arms for run in arm.runs]
    finished = sum(run.status == "finished" for run in runs)
    if comparison.status == "running":
        return (
            f"This comparison is still running: {finished} of {write_counted(len(runs), 'run')} "
            "have finished, and nothing is judged before all have."
        )
    if finished == 0:
        return f"No run came to its end, so there is nothing to compare.{_first_reason(comparison)}"
    return (
        f"{finished} of {write_counted(len(runs), 'run')} finished, but no measure by which to "
        "tell the arms apart was taken."
    )


def _first_reason(comparison: Comparison) -> str:
    failed = ((arm.name, run) for arm in comparison.arms for run in arm.failed if run.reason)
    name, run = next(failed, ("", None))
    return f" The first to fail, {name} with seed {run.seed}: {_end(run.reason)}" if run else ""


def _end(sentence: str | None) -> str:
    text = (sentence or "").rstrip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _describe_unjudged(comparison: Comparison, primary: Measure) -> str:
    label = write_within(primary.label)
    if len(primary.arms) == 1:
        ((name, only),) = primary.arms.items()
        return (
            f"Only {name} was measured ({label} {_with_interval(only, primary)}, "
            f"{_count_one(only)}), so there is nothing to set it against."
        )
    best = _pick_best(primary)
    if len(comparison.seeds) > 1:
        reason = "Too few runs finished to tell a method from its luck"
    else:
        reason = "One training seed cannot tell a method from its luck"
    extreme = "highest" if primary.direction == "higher" else "lowest"
    return (
        f"{reason}, so no arm is called better here: {best} has the {extreme} {label}, "
        f"{_with_interval(primary.arms[best], primary)} ({_count_one(primary.arms[best])}), but "
        "the interval is over pictures and says nothing of another seed."
    )


def _pick_best(primary: Measure) -> str:
    sign = -1 if primary.direction == "higher" else 1
    return min(primary.arms, key=lambda name: sign * primary.arms[name].value)


def _count_one(estimate: Estimate) -> str:
    return write_sample(estimate.pictures, estimate.seeds)


def _with_interval(estimate: Estimate, measure: Measure) -> str:
    return write_with_interval(estimate.value, estimate.low, estimate.high, measure.unit)
