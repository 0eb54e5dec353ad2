"""What the verdicts of one measure say of the arms together."""

from collections.abc import Sequence
from dataclasses import dataclass

from rasengan_xl.evaluation.records import Verdict

_TOLD = ("better", "worse")


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
    unjudged: list[Verdict]
    arms: list[str]
    """All that verdicts name, also those that were not judged."""

    @property
    def judged(self) -> bool:
        """Whether any pair was judged."""
        return bool(self.gaps or self.tied)

    @property
    def unbeaten(self) -> list[str]:
        """Arms that none was found better than, in the order of the arms."""
        beaten = {gap.loser for gap in self.gaps}
        return [arm for arm in self.arms if arm not in beaten]

    @property
    def leaders(self) -> list[str]:
        """Unbeaten arms that were judged against every other arm."""
        open_arms = {name for verdict in self.unjudged for name in (verdict.first, verdict.second)}
        return [arm for arm in self.unbeaten if arm not in open_arms]

    @property
    def splits(self) -> bool:
        """Whether there are leaders, and each is better than every other arm."""
        pairs = {(gap.winner, gap.loser) for gap in self.gaps}
        leaders = self.leaders
        others = [arm for arm in self.arms if arm not in leaders]
        return bool(leaders and others) and all(
            (leader, other) in pairs for leader in leaders for other in others
        )

    @property
    def circular(self) -> bool:
        """Whether every arm is beaten by another, so that none can be the best."""
        return bool(self.gaps) and not self.unbeaten


def rank(verdicts: Sequence[Verdict]) -> Ranking:
    """Read the verdicts of one measure; those that were not judged hold back whom they name."""
    gaps = [_measure_gap(verdict) for verdict in verdicts if verdict.outcome in _TOLD]
    return Ranking(
        gaps=sorted(gaps, key=lambda gap: -gap.size),
        tied=[verdict for verdict in verdicts if verdict.outcome == "no detectable difference"],
        unjudged=[verdict for verdict in verdicts if verdict.outcome == "not judged"],
        arms=list(dict.fromkeys(name for v in verdicts for name in (v.first, v.second))),
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
