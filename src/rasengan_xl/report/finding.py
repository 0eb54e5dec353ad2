"""What judged pairs of arms add up to, in words: a winner, leaders, pairs, a tie or a circle."""

from collections.abc import Sequence

from rasengan_xl.evaluation.records import Measure, Verdict
from rasengan_xl.report.numbers import (
    list_names,
    write_counted,
    write_sample,
    write_with_interval,
    write_within,
)
from rasengan_xl.report.ranking import Gap, Ranking

MOST_NAMED = 3
"""Pairs that a sentence names; the table has them all."""
_LEAST_SEEDS = 2


def describe_ranking(ranking: Ranking, primary: Measure, verdicts: Sequence[Verdict]) -> str:
    """Say what the verdicts of the primary measure come to, and which of its pairs have none.

    Args:
        ranking: Of the verdicts; some are judged.
        primary: The measure.
        verdicts: All of its verdicts.
    """
    judged = [verdict for verdict in verdicts if verdict.outcome != "not judged"]
    end = f" ({_count(judged)}; 95\N{NO-BREAK SPACE}% intervals)."
    return " ".join((_describe(ranking, primary) + end, *_name_unjudged(ranking)))


def _describe(ranking: Ranking, primary: Measure) -> str:
    label = write_within(primary.label)
    if not ranking.gaps:
        return _describe_tie(ranking, primary)
    if ranking.circular:
        pairs = _list_pairs(ranking, primary)
        return f"By {label}, verdicts go in a circle, so no arm is best: {pairs}"
    if not ranking.splits:
        return f"By {label}, {_list_pairs(ranking, primary)}{_describe_rest(ranking)}"
    leaders = ranking.leaders
    if len(leaders) == 1:
        return f"{leaders[0]} gives the best {label}: {_list_gaps(ranking, primary)}"
    others = [arm for arm in ranking.arms if arm not in leaders]
    least = min((g for g in ranking.gaps if g.winner in leaders), key=lambda gap: gap.size)
    return (
        f"By {label}, {list_names(leaders)} cannot be told apart, and each is better than "
        f"{list_names(others)}; the smallest difference, {least.winner} from {least.loser}, is "
        f"{_size(least, primary)}"
    )


def _describe_tie(ranking: Ranking, primary: Measure) -> str:
    largest = max(ranking.tied, key=lambda verdict: abs(verdict.difference))
    size = write_with_interval(largest.difference, largest.low, largest.high, primary.unit)
    if ranking.unjudged:
        pairs = f"in {_count_pairs(len(ranking.tied))} that could be judged"
    elif len(ranking.arms) == 2:
        pairs = "between the two arms"
    else:
        pairs = f"between any of the {len(ranking.arms)} arms"
    which = "the difference" if len(ranking.tied) == 1 else "the largest"
    return (
        f"No difference in {write_within(primary.label)} was found {pairs}; {which}, "
        f"{largest.first} less {largest.second}, is {size}, which may be chance"
    )


def _list_pairs(ranking: Ranking, primary: Measure) -> str:
    return list_names(
        [
            f"{gap.winner} is better than {gap.loser} by {_size(gap, primary)}"
            for gap in ranking.gaps[:MOST_NAMED]
        ]
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
    if not ranking.tied:
        return found
    return f"{found}; {_count_pairs(len(ranking.tied))} cannot be told apart"


def _name_unjudged(ranking: Ranking) -> list[str]:
    """Say which arms, and which pairs of the others, have no verdict, and why."""
    judged = {gap.winner for gap in ranking.gaps} | {gap.loser for gap in ranking.gaps}
    judged |= {name for verdict in ranking.tied for name in (verdict.first, verdict.second)}
    sentences: list[str] = []
    alone = [arm for arm in ranking.arms if arm not in judged]
    for arm in alone:
        reasons = [v for v in ranking.unjudged if arm in (v.first, v.second)]
        sentences.append(f"{arm} was not judged against any other arm: {_explain(reasons)}.")
    pairs = [v for v in ranking.unjudged if v.first in judged and v.second in judged]
    if pairs:
        named = [f"{v.first} and {v.second}" for v in pairs[:MOST_NAMED]]
        more = len(pairs) - len(named)
        rest = f", and {_count_pairs(more)} more," if more else ""
        verb = "were not judged against each other"
        sentences.append(f"{'; '.join(named)}{rest} {verb}: {_explain(pairs)}.")
    return sentences


def _explain(verdicts: Sequence[Verdict]) -> str:
    most = max(verdict.seeds for verdict in verdicts)
    if most >= _LEAST_SEEDS:
        return "the measure gives no verdict for them"
    common = "no training seed" if most == 0 else "only one training seed"
    return f"{common} finished on both sides, and a verdict takes {_LEAST_SEEDS}"


def _count(verdicts: Sequence[Verdict]) -> str:
    """Say what differences are over; a failed run leaves its pairs with fewer seeds."""
    most = max(verdicts, key=lambda verdict: (verdict.seeds, verdict.pictures))
    least = min(verdict.seeds for verdict in verdicts)
    sample = write_sample(most.pictures, most.seeds)
    return sample if least == most.seeds else f"{sample}, {least} where a run is missing"


def _count_pairs(number: int) -> str:
    return "one pair" if number == 1 else f"{number} pairs"


def _size(gap: Gap, measure: Measure) -> str:
    return write_with_interval(gap.size, gap.low, gap.high, measure.unit)
