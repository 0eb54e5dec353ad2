"""Where every arm stood when the fastest was done: equal wall-clock instead of equal steps."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

from rasengan_xl.comparison.result import CheckpointPoint, EqualTime, LossAtTime
from rasengan_xl.evaluation.intervals import estimate
from rasengan_xl.evaluation.samples import Seed, sample_values
from rasengan_xl.runs.folder import RunFolder


class RunCourse:
    """How one run's time and held-out loss went on over its steps."""

    def __init__(self, run: RunFolder) -> None:
        seconds = [record.seconds for record in run.records()]
        self.spent = list(accumulate(seconds))
        """Seconds after each step."""
        self.checkpoints = [
            CheckpointPoint(
                step=loss.step,
                seconds=self.spent[loss.step - 1],
                loss=loss.loss,
                standard_error=loss.standard_error,
                n=loss.n,
            )
            for loss in run.losses()
            if loss.step <= len(self.spent)
        ]

    @property
    def seconds(self) -> float:
        """All steps together."""
        return self.spent[-1] if self.spent else 0.0

    def steps_at(self, seconds: float) -> int:
        """Return how many steps were done by then."""
        return bisect_right(self.spent, seconds)

    def loss_at(self, seconds: float) -> float | None:
        """Interpolate the held-out loss between the checkpoints around; None before the first."""
        points = [(point.seconds, point.loss) for point in self.checkpoints]
        if not points or seconds < points[0][0]:
            return None
        for (before, first), (after, second) in pairwise(points):
            if before <= seconds <= after:
                return first + (second - first) * (seconds - before) / (after - before)
        return points[-1][1]


def stand_at_equal_time(courses: dict[str, dict[int, RunCourse]]) -> EqualTime | None:
    """Say where each arm stood after as long as the fastest arm's run took, on the mean.

    Args:
        courses: By arm and training seed.

    Returns:
        Nothing with fewer than two arms, or where no arm has a checkpoint by then.
    """
    totals = {a: _mean([c.seconds for c in runs.values()]) for a, runs in courses.items() if runs}
    if len(totals) < 2:
        return None
    seconds = min(totals.values())
    stood = {arm: _stand(courses[arm], seconds) for arm in totals}
    arms = {arm: found for arm, found in stood.items() if found is not None}
    return EqualTime(seconds=seconds, arms=arms) if arms else None


def _stand(runs: dict[int, RunCourse], seconds: float) -> LossAtTime | None:
    losses: dict[Seed, float] = {}
    for seed, course in runs.items():
        if (loss := course.loss_at(seconds)) is not None:
            losses[seed] = loss
    if not losses:
        return None
    found = estimate(sample_values(losses))
    return LossAtTime(
        steps=_mean([course.steps_at(seconds) for s, course in runs.items() if s in losses]),
        loss=found.value,
        low=found.low,
        high=found.high,
        seeds=len(losses),
        n=next(c.checkpoints[0].n for s, c in runs.items() if s in losses),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
