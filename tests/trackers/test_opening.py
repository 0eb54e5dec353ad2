import os
import subprocess
import sys
import types
from contextvars import ContextVar

import pytest

from rasengan_xl.errors import DeviceError
from rasengan_xl.runs.records import StepRecord
from rasengan_xl.trackers.opening import open_tracker

SETTINGS = {"seed": 7, "adapter": {"rank": 16}}
NAMES = {"loss", "gradient_norm", "learning_rate", "seconds_per_step", "peak_memory_gib"}


def step(number):
    return StepRecord(
        step=number,
        loss=1 / number,
        gradient_norm=2.0,
        learning_rate=1e-4,
        seconds=0.5,
        idle_seconds=0.1,
        peak_memory_gib=1.5,
    )


def track(tracker):
    for number in (1, 2, 4):
        tracker.log(step(number))
    tracker.log_loss(4, 0.125)
    tracker.close()
    assert tracker.failure is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_back_what_was_written(tmp_path):
    pytest.importorskip("tensorboard")
    track(open_tracker("tensorboard", tmp_path, "lora-1", SETTINGS))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "lora-1"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {*NAMES, "held_out_loss"}
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (1, 1.0),
        (2, 0.5),
        (4, 0.25),
    ]
    assert [(event.step, event.value) for event in events.Scalars("held_out_loss")] == [(4, 0.125)]
    (text,) = events.Tensors("settings/text_summary")
    assert b"adapter.rank: 16" in text.tensor_proto.string_val[0]


FOLLOW_TWO = """
import sys
from pathlib import Path
from rasengan_xl.runs.records import StepRecord
from rasengan_xl.trackers.opening import open_tracker
names = ("lora-1", "dora-1")
trackers = [open_tracker("wandb", Path(sys.argv[1]), name, {"seed": 7}) for name in names]
for tracker in trackers:
    tracker.log(StepRecord(step=1, loss=0.5, gradient_norm=2.0, learning_rate=1e-4, seconds=0.5,
                           idle_seconds=0.1, peak_memory_gib=1.5))
    tracker.log_loss(1, 0.125)
for tracker in trackers:
    tracker.close()
    assert tracker.failure is None, tracker.failure
"""


def run_apart(script, folder, **variables):
    """Run Python for a user who has no settings of any library."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return subprocess.run(
        (sys.executable, "-c", script, str(folder)),
        env={**kept, "HOME": str(folder / "home"), **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_wandb_keeps_two_runs_at_once_without_a_network_and_without_a_word(tmp_path):
    pytest.importorskip("wandb")
    done = run_apart(FOLLOW_TWO, tmp_path, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    kept = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(kept) == 2
    content = b"".join(file.read_bytes() for file in kept)
    expected = {*NAMES, "held_out_loss", "lora-1", "dora-1"}
    assert {name for name in expected if name.encode() in content} == expected


CHECK = """
from rasengan_xl.trackers.opening import check_trackers
check_trackers(["wandb"])
"""


@pytest.mark.parametrize("script", [FOLLOW_TWO, CHECK], ids=["when it is opened", "before work"])
def test_wandb_asks_for_no_key_but_says_how_to_log_in(tmp_path, script):
    pytest.importorskip("wandb")
    done = run_apart(script, tmp_path, WANDB_MODE="online")
    assert "DeviceError: --track wandb: you are not logged in; run `wandb login`" in done.stderr
    assert done.stdout == ""


def test_wandb_without_a_network_needs_no_key(tmp_path):
    pytest.importorskip("wandb")
    done = run_apart(CHECK, tmp_path, WANDB_MODE="offline")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_wandb_objects_to_is_told_before_any_work(tmp_path):
    pytest.importorskip("wandb")
    done = run_apart(CHECK, tmp_path, WANDB_MODE="online", WANDB_API_KEY="short")
    assert "DeviceError: --track wandb: " in done.stderr.strip().splitlines()[-1]
    assert done.stdout == ""


@pytest.fixture
def trackio(monkeypatch):
    """Stand in for trackio, which begins one run at a time, and talks."""
    current, runs = ContextVar("current", default=None), []

    class Run:
        def __init__(self, **asked):
            self.asked, self.logged, self.finished = asked, [], False
            runs.append(self)

        def log(self, metrics, step=None):
            assert not self.finished
            self.logged.append((step, metrics))

        def finish(self):
            sys.stdout.write("* Run finished\n")
            self.finished = True

    def init(**asked):
        sys.stdout.write("* Trackio project initialized\n")
        if current.get() is not None:
            current.get().finish()
        current.set(Run(**asked))
        return current.get()

    module = types.ModuleType("trackio")
    module.init = init
    monkeypatch.setitem(sys.modules, "trackio", module)
    return runs


def test_trackio_keeps_two_runs_at_once_without_a_word(trackio, tmp_path, capsys):
    trackers = [open_tracker("trackio", tmp_path, name, SETTINGS) for name in ("lora", "dora")]
    for tracker in trackers:
        track(tracker)
    assert [run.asked["name"] for run in trackio] == ["lora", "dora"]
    assert trackio[0].asked["config"] == {"seed": 7, "adapter.rank": 16}
    for run in trackio:
        assert run.finished
        assert [number for number, _ in run.logged] == [1, 2, 4, 4]
        assert set(run.logged[0][1]) == NAMES
        assert run.logged[-1] == (4, {"held_out_loss": 0.125})
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kind", "module"),
    [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("trackio", "trackio")],
)
def test_a_missing_library_is_named_with_the_way_to_get_it(kind, module, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(DeviceError, match=rf"pip install 'rasengan-xl\[{kind}\]'"):
        open_tracker(kind, tmp_path, "lora", {})


def test_what_a_library_objects_to_is_told_before_any_work(trackio, tmp_path, monkeypatch):
    def refuse(**asked):
        raise ValueError("no such project")

    monkeypatch.setattr(sys.modules["trackio"], "init", refuse)
    with pytest.raises(DeviceError, match="--track trackio: cannot begin .ValueError: no such"):
        open_tracker("trackio", tmp_path, "lora", {})
