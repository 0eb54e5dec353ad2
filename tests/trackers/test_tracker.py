import pytest

from rasengan_xl.runs.records import StepRecord
from rasengan_xl.trackers.tracker import Sink, Tracker, step_scalars

STEP = StepRecord(
    step=3,
    loss=0.25,
    gradient_norm=1.5,
    learning_rate=1e-4,
    seconds=0.5,
    idle_seconds=0.1,
    peak_memory_gib=2.0,
)


@pytest.fixture
def written():
    return []


def test_a_step_is_written_under_the_same_names_everywhere(written):
    tracker = Tracker("test", Sink(write=lambda *said: written.append(said), end=lambda: None))
    tracker.log(STEP)
    tracker.log_loss(3, 0.125)
    scalars = {
        "loss": 0.25,
        "learning_rate": 1e-4,
        "seconds_per_step": 0.5,
        "peak_memory_gib": 2.0,
        "gradient_norm": 1.5,
    }
    assert written == [(scalars, 3), ({"held_out_loss": 0.125}, 3)]


def test_a_step_that_was_skipped_has_no_gradient_norm():
    skipped = StepRecord(
        step=1,
        loss=1,
        gradient_norm=None,
        learning_rate=1,
        seconds=1,
        idle_seconds=0,
        peak_memory_gib=1,
        skipped=True,
    )
    assert "gradient_norm" not in step_scalars(skipped)


def test_a_tracker_that_fails_is_silent_from_then_on(written):
    def write(scalars, step):
        written.append(step)
        raise OSError("no route to host\nand more")

    tracker = Tracker("test", Sink(write=write, end=lambda: written.append("end")))
    assert tracker.failure is None
    tracker.log(STEP)
    tracker.log(STEP)
    tracker.close()
    assert written == [3], "neither written nor ended a second time"
    assert tracker.failure == "OSError: no route to host"


def test_a_tracker_that_cannot_be_closed_has_failed():
    def end():
        raise TimeoutError

    tracker = Tracker("test", Sink(write=lambda *said: None, end=end))
    tracker.close()
    assert tracker.failure == "TimeoutError"


def test_nothing_is_written_once_a_tracker_is_closed(written):
    tracker = Tracker("test", Sink(write=lambda *said: written.append(said), end=lambda: None))
    tracker.close()
    tracker.log(STEP)
    assert written == []
    assert tracker.failure is None
