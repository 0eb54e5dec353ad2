"""Where every arm stood when the fastest was done: equal wall-clock instead of equal steps."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

from rasengan_xl.comparison.result import CheckpointPoint, EqualTime, LossAtTime
from rasengan_xl.evaluation.intervals import estimate
from rasengan_xl.evaluation.samples import Seed, sample_values
from rasengan_xl.runs.folder import RunFolder

NOTE = (
    "Losses on the way are measured on the base that a run trains on, in fewer bits for a "
    "quantized arm. A slower arm is cut off in the middle of its learning-rate schedule, before "
    "its low rates, which counts against it: a run planned for that time might do better."
)
"""What must be known to read the figures."""


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

    Only seeds that every arm has finished count, so that the arms are set beside each other over
    the same ones.  Losses are on the base that a run trains on, and a slower arm's learning-rate
    schedule is cut off before its end: see `NOTE`.

    Args:
        courses: By arm and training seed; an arm that finished none is left out.

    Returns:
        Nothing with fewer than two arms or no seed that all have, or where no arm has a
        checkpoint by then.
    """
    finished = {arm: runs for arm, runs in courses.items() if runs}
    shared = _shared_seeds(finished)
    if len(finished) < 2 or not shared:
        return None
    alike = {arm: {s: runs[s] for s in shared} for arm, runs in finished.items()}
    seconds = min(_mean([c.seconds for c in runs.values()]) for runs in alike.values())
    stood = {arm: _stand(runs, seconds) for arm, runs in alike.items()}
    arms = {arm: found for arm, found in stood.items() if found is not None}
    return EqualTime(seconds=seconds, arms=arms, note=NOTE) if arms else None


def _shared_seeds(courses: dict[str, dict[int, RunCourse]]) -> list[int]:
    """Return the seeds that every arm has, in order."""
    seeds = [set(runs) for runs in courses.values()]
    return sorted(set[int].intersection(*seeds)) if seeds else []


def _stand(runs: dict[int, RunCourse], seconds: float) -> LossAtTime | None:
    """Say where an arm stood; nothing where one of its seeds has no checkpoint by then."""
    losses: dict[Seed, float] = {}
    for seed, course in runs.items():
        if (loss := course.loss_at(seconds)) is not None:
            losses[seed] = loss
    if len(losses) < len(runs):
        return None
    found = estimate(sample_values(losses))
    return LossAtTime(
        steps=_mean([course.steps_at(seconds) for course in runs.values()]),
        loss=found.value,
        low=found.low,
        high=found.high,
        seeds=len(losses),
        n=next(course.checkpoints[0].n for course in runs.values()),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
