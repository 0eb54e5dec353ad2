"""Let trackers follow a run's records on their way to whoever shows them."""

from collections.abc import Callable, Generator, Iterable, Sequence

from rasengan_xl.runs.records import CheckpointLoss, StageProgress, StepRecord
from rasengan_xl.trackers.tracker import Tracker

STAGE = "track"


def following(
    records: Iterable[StageProgress | StepRecord],
    trackers: Sequence[Tracker],
    measured: Callable[[], Sequence[CheckpointLoss]] | None = None,
) -> Generator[StageProgress | StepRecord]:
    """Pass records on, and write them down in every tracker; close the trackers at the end.

    A tracker that fails is told of once, as a note, and dropped; the run goes on.  Closing the
    iterator closes the records, which may save, and then the trackers.

    Args:
        records: What a run yields.
        trackers: Where to write it down.
        measured: Gives the held-out losses measured so far, such as `RunFolder.losses`; asked
            between steps.
    """
    told: set[int] = set()
    losses = _Losses(measured)
    try:
        for record in records:
            if isinstance(record, StepRecord):
                losses.begin(record.step)
                for tracker in trackers:
                    tracker.log(record)
            else:
                losses.log(trackers)
            yield record
            yield from _tell_failures(trackers, told)
        losses.log(trackers)
    finally:
        if isinstance(records, Generator):
            records.close()
        for tracker in trackers:
            tracker.close()
    yield from _tell_failures(trackers, told)


class _Losses:
    """Held-out losses, each written down once."""

    def __init__(self, measured: Callable[[], Sequence[CheckpointLoss]] | None) -> None:
        self._measured = measured
        self._logged: int | None = None

    def begin(self, step: int) -> None:
        """Leave out what an earlier attempt measured, before the first step of this one."""
        if self._logged is None:
            self._logged = step - 1

    def log(self, trackers: Sequence[Tracker]) -> None:
        """Write down what is new."""
        if self._measured is None or self._logged is None:
            return
        for loss in self._measured():
            if loss.step > self._logged:
                self._logged = loss.step
                for tracker in trackers:
                    tracker.log_loss(loss.step, loss.loss)


def _tell_failures(trackers: Sequence[Tracker], told: set[int]) -> Generator[StageProgress]:
    for number, tracker in enumerate(trackers):
        if tracker.failure is not None and number not in told:
            told.add(number)
            note = f"{tracker.kind} failed and is left out from here: {tracker.failure}"
            yield StageProgress(stage=STAGE, done=1, total=1, note=note)
