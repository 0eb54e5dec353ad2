"""What the verdicts of one measure say of the arms together."""

from collections.abc import Sequence
from dataclasses import dataclass

from rasengan_xl.evaluation.records import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A pair that was told apart, the better arm first."""

    winner: str
    loser: str
    size: float
    """How far apart they are; not negative."""
    low: float | None
    high: float | None
    """95 % interval of the size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Who is better than whom, and who cannot be told from whom."""

    gaps: list[Gap]
    """Largest first."""
    tied: list[Verdict]
    arms: list[str]

    @property
    def leaders(self) -> list[str]:
        """Arms that none was found better than, in the order of the arms."""
        beaten = {gap.loser for gap in self.gaps}
        return [arm for arm in self.arms if arm not in beaten]

    @property
    def splits(self) -> bool:
        """Whether every leader is better than every other arm."""
        pairs = {(gap.winner, gap.loser) for gap in self.gaps}
        others = [arm for arm in self.arms if arm not in self.leaders]
        return bool(others) and all(
            (leader, other) in pairs for leader in self.leaders for other in others
        )


def rank(verdicts: Sequence[Verdict]) -> Ranking:
    """Read the verdicts of one measure; those that were not judged say nothing."""
    judged = [verdict for verdict in verdicts if verdict.outcome != "not judged"]
    gaps = [_measure_gap(verdict) for verdict in judged if verdict.outcome in ("better", "worse")]
    return Ranking(
        gaps=sorted(gaps, key=lambda gap: -gap.size),
        tied=[verdict for verdict in judged if verdict.outcome == "no detectable difference"],
        arms=list(dict.fromkeys(name for v in judged for name in (v.first, v.second))),
    )


def _measure_gap(verdict: Verdict) -> Gap:
    first_won = verdict.outcome == "better"
    ends = sorted(abs(end) for end in (verdict.low, verdict.high) if end is not None)
    if verdict.low is not None and verdict.high is not None and verdict.low * verdict.high < 0:
        # Told apart by another test than the interval: it reaches over nought on one side.
        sign = 1 if verdict.difference >= 0 else -1
        ends = sorted((sign * verdict.low, sign * verdict.high))
    return Gap(
        winner=verdict.first if first_won else verdict.second,
        loser=verdict.second if first_won else verdict.first,
        size=abs(verdict.difference),
        low=ends[0] if ends else None,
        high=ends[-1] if ends else None,
    )
