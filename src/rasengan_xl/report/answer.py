"""The answer of a comparison in two sentences: what it found, how surely, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from rasengan_xl.comparison.result import Comparison
from rasengan_xl.evaluation.records import Estimate, Measure, Verdict
from rasengan_xl.report.arms import find_primary, list_verdicts
from rasengan_xl.report.cost_sentence import write_cost
from rasengan_xl.report.numbers import (
    write_counted,
    write_sample,
    write_with_interval,
    write_within,
)
from rasengan_xl.report.ranking import Gap, Ranking, rank

MOST_NAMED = 3
"""Pairs that a sentence names; the table has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to read first."""

    finding: str
    cost: str
    """Empty where nothing was measured."""
    judged: bool
    """Whether arms were set against each other at all."""


def write_answer(comparison: Comparison) -> Answer:
    """Say what a comparison found, as far as its figures bear it."""
    primary = find_primary(comparison)
    cost = write_cost(comparison)
    if primary is None or not primary.arms:
        return Answer(finding=_explain_absence(comparison), cost=cost, judged=False)
    ranking = rank(list_verdicts(comparison, primary.key))
    if not ranking.arms:
        return Answer(finding=_describe_unjudged(comparison, primary), cost=cost, judged=False)
    return Answer(
        finding=_describe(ranking, primary, list_verdicts(comparison, primary.key)),
        cost=cost,
        judged=True,
    )


def list_names(names: Sequence[str]) -> str:
    """Write names as a person would: a, b and c."""
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def _explain_absence(comparison: Comparison) -> str:
    runs = [run for arm in comparison.arms for run in arm.runs]
    finished = sum(run.status == "finished" for run in runs)
    if comparison.status == "running":
        return (
            f"This comparison is still running: {finished} of {write_counted(len(runs), 'run')} "
            "have finished, and nothing is judged before all have."
        )
    if finished == 0:
        return "No run came to its end, so there is nothing to compare."
    return (
        f"{finished} of {write_counted(len(runs), 'run')} finished, but no measure by which to "
        "tell the arms apart was taken."
    )


def _describe_unjudged(comparison: Comparison, primary: Measure) -> str:
    over = "the interval is over pictures and says nothing of another seed"
    if len(primary.arms) == 1:
        ((name, only),) = primary.arms.items()
        return (
            f"Only {name} was measured ({write_within(primary.label)} "
            f"{_with_interval(only, primary)}, {_count_one(only)}), so there is "
            "nothing to set it against."
        )
    best = _pick_best(primary)
    if len(comparison.seeds) > 1:
        reason = "Too few runs finished to tell a method from its luck"
    else:
        reason = "One training seed cannot tell a method from its luck"
    extreme = "highest" if primary.direction == "higher" else "lowest"
    return (
        f"{reason}, so no arm is called better here: {best} has the "
        f"{extreme} {write_within(primary.label)}, "
        f"{_with_interval(primary.arms[best], primary)} ({_count_one(primary.arms[best])}), but "
        f"{over}."
    )


def _describe(ranking: Ranking, primary: Measure, verdicts: Sequence[Verdict]) -> str:
    end = f" ({_count(verdicts)}; 95\N{NO-BREAK SPACE}% intervals)."
    label = write_within(primary.label)
    if not ranking.gaps:
        return _describe_tie(ranking, primary) + end
    if ranking.splits and len(ranking.leaders) == 1:
        text = f"{ranking.leaders[0]} gives the best {label}: {_list_gaps(ranking, primary)}"
    elif ranking.splits:
        others = [arm for arm in ranking.arms if arm not in ranking.leaders]
        least = min(ranking.gaps, key=lambda gap: gap.size)
        text = (
            f"By {label}, {list_names(ranking.leaders)} cannot be told apart, and each is better "
            f"than {list_names(others)}, by at least {_size(least, primary)}"
        )
    else:
        pairs = [
            f"{gap.winner} is better than {gap.loser} by {_size(gap, primary)}"
            for gap in ranking.gaps[:MOST_NAMED]
        ]
        text = f"By {label}, {list_names(pairs)}{_describe_rest(ranking)}"
    return text + end


def _count(verdicts: Sequence[Verdict]) -> str:
    """Say what differences are over; a failed run leaves its pairs with fewer seeds."""
    most = max(verdicts, key=lambda verdict: (verdict.seeds, verdict.pictures))
    least = min(verdict.seeds for verdict in verdicts)
    sample = write_sample(most.pictures, most.seeds)
    return sample if least == most.seeds else f"{sample}, {least} where a run is missing"


def _describe_tie(ranking: Ranking, primary: Measure) -> str:
    largest = max(ranking.tied, key=lambda verdict: abs(verdict.difference))
    size = write_with_interval(largest.difference, largest.low, largest.high, primary.unit)
    pairs = "the two arms" if len(ranking.arms) == 2 else f"any of the {len(ranking.arms)} arms"
    return (
        f"No difference in {write_within(primary.label)} was found between {pairs}; the largest, "
        f"{largest.first} less {largest.second}, is {size}, which may be chance"
    )


def _list_gaps(ranking: Ranking, primary: Measure) -> str:
    leading = [gap for gap in ranking.gaps if gap.winner in ranking.leaders]
    named = [f"{_size(gap, primary)} than {gap.loser}" for gap in leading[:MOST_NAMED]]
    way = "higher" if primary.direction == "higher" else "lower"
    if len(leading) > MOST_NAMED:
        named.append(f"than {len(leading) - MOST_NAMED} more")
    return f"{way} by {list_names(named)}"


def _describe_rest(ranking: Ranking) -> str:
    more = len(ranking.gaps) - MOST_NAMED
    found = f", and {write_counted(more, 'further pair')} differ" if more > 0 else ""
    tied = len(ranking.tied)
    if tied == 0:
        return found
    pairs = "one pair" if tied == 1 else f"{tied} pairs"
    return f"{found}; {pairs} cannot be told apart"


def _pick_best(primary: Measure) -> str:
    sign = -1 if primary.direction == "higher" else 1
    return min(primary.arms, key=lambda name: sign * primary.arms[name].value)


def _count_one(estimate: Estimate) -> str:
    return write_sample(estimate.pictures, estimate.seeds)


def _with_interval(estimate: Estimate, measure: Measure) -> str:
    return write_with_interval(estimate.value, estimate.low, estimate.high, measure.unit)


def _size(gap: Gap, measure: Measure) -> str:
    return write_with_interval(gap.size, gap.low, gap.high, measure.unit)
