from contextlib import closing

from rasengan_xl.runs.records import CheckpointLoss, StageProgress, StepRecord
from rasengan_xl.trackers.following import following
from rasengan_xl.trackers.tracker import Sink, Tracker


def step(number):
    return StepRecord(
        step=number,
        loss=1 / number,
        gradient_norm=None,
        learning_rate=1e-4,
        seconds=0.5,
        idle_seconds=0.1,
        peak_memory_gib=1.0,
    )


STAGE = StageProgress(stage="train", done=1, total=2)


class Notebook:
    """A sink that keeps what it is told, and fails at a step if asked to."""

    def __init__(self, failing_at=None):
        self.written, self.ended, self.failing_at = [], 0, failing_at

    def write(self, scalars, step):
        if step == self.failing_at:
            raise ConnectionError("refused")
        self.written += [(step, name) for name in scalars if name.endswith("loss")]

    def end(self):
        self.ended += 1

    def tracker(self):
        return Tracker("test", Sink(write=self.write, end=self.end))


def test_records_pass_unchanged_and_every_tracker_writes_steps_down():
    records = [STAGE, step(1), step(2)]
    first, second = Notebook(), Notebook()
    assert list(following(iter(records), [first.tracker(), second.tracker()])) == records
    assert first.written == second.written == [(1, "loss"), (2, "loss")]
    assert first.ended == second.ended == 1


def test_a_tracker_that_fails_is_told_of_once_and_the_run_goes_on():
    records = [step(number) for number in range(1, 5)]
    failing, sound = Notebook(failing_at=2), Notebook()
    passed = list(following(iter(records), [failing.tracker(), sound.tracker()]))
    notes = [record.note for record in passed if isinstance(record, StageProgress)]
    assert notes == ["test failed and is left out from here: ConnectionError: refused"]
    assert [record for record in passed if isinstance(record, StepRecord)] == records
    assert len(failing.written) == 1
    assert len(sound.written) == 4


def test_held_out_losses_are_written_once_and_only_those_of_this_attempt():
    measured = [CheckpointLoss(step=2, loss=0.5, standard_error=0.1, n=4)]

    def run():
        yield STAGE
        yield step(3)
        yield step(4)
        measured.append(CheckpointLoss(step=4, loss=0.4, standard_error=0.1, n=4))
        yield STAGE
        yield STAGE
        measured.append(CheckpointLoss(step=5, loss=0.3, standard_error=0.1, n=4))

    notebook = Notebook()
    list(following(run(), [notebook.tracker()], lambda: measured))
    losses = [said for said in notebook.written if said[1] == "held_out_loss"]
    assert losses == [(4, "held_out_loss"), (5, "held_out_loss")]


def test_closing_closes_the_run_first_and_then_the_trackers():
    order = []

    def run():
        try:
            yield step(1)
            yield step(2)
        finally:
            order.append("saved")

    tracker = Tracker("test", Sink(write=lambda *said: None, end=lambda: order.append("ended")))
    with closing(following(run(), [tracker])) as records:
        next(records)
    assert order == ["saved", "ended"]


def test_a_failure_while_closing_is_told_too():
    def end():
        raise OSError("disk full")

    tracker = Tracker("test", Sink(write=lambda *said: None, end=end))
    *_, last = following(iter([step(1)]), [tracker])
    assert "disk full" in last.note
