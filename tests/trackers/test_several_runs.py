from contextlib import closing

import pytest

from rasengan_xl.errors import DeviceError
from rasengan_xl.runs.records import StepRecord
from rasengan_xl.trackers import several_runs
from rasengan_xl.trackers.several_runs import SeveralRuns
from rasengan_xl.trackers.tracker import Sink, Tracker

STEP = StepRecord(
    step=1,
    loss=0.25,
    gradient_norm=1.0,
    learning_rate=1e-4,
    seconds=0.5,
    idle_seconds=0.1,
    peak_memory_gib=1.5,
)


@pytest.fixture
def opened(monkeypatch):
    """Let trackers be opened by a function of kind and run; note what is opened and written."""
    said = []

    def become(sink):
        def open_tracker(kind, folder, run, settings):
            said.append(("open", kind, run, settings))
            return Tracker(kind, sink(kind, run, said))

        monkeypatch.setattr(several_runs, "open_tracker", open_tracker)
        return said

    return become


def notebook(kind, run, said):
    return Sink(
        write=lambda scalars, step: said.append(("write", kind, run)),
        end=lambda: said.append(("end", kind, run)),
    )


def test_each_run_is_opened_once_with_its_own_settings(opened, tmp_path):
    said = opened(notebook)
    with closing(SeveralRuns(["wandb"], tmp_path)) as tracked:
        for run, rate in (("a", 1), ("b", 2), ("a", 1)):
            assert tracked.log(run, {"rate": rate}, STEP) == []
    assert [each for each in said if each[0] == "open"] == [
        ("open", "wandb", "a", {"rate": 1}),
        ("open", "wandb", "b", {"rate": 2}),
    ]
    assert [each[0] for each in said].count("write") == 3
    assert [each[0] for each in said].count("end") == 2


def test_a_tracker_that_cannot_be_opened_is_told_once_and_left_out_for_that_run(opened, tmp_path):
    def refuse_one(kind, run, said):
        if (kind, run) == ("wandb", "a"):
            raise DeviceError("--track wandb: cannot begin (CommError: no route)")
        return notebook(kind, run, said)

    said = opened(refuse_one)
    with closing(SeveralRuns(["wandb", "trackio"], tmp_path)) as tracked:
        (note,) = tracked.log("a", {}, STEP)
        assert note.startswith("a: --track wandb: cannot begin (CommError: no route)")
        assert tracked.log("a", {}, STEP) == []
        assert tracked.log("b", {}, STEP) == []
    written = [each[1:] for each in said if each[0] == "write"]
    assert written == [("trackio", "a"), ("trackio", "a"), ("wandb", "b"), ("trackio", "b")]


def test_a_failure_is_told_once_for_each_run_and_kind(opened, tmp_path):
    def broken(kind, run, said):
        def write(scalars, step):
            raise OSError("disk full")

        return Sink(write=write, end=lambda: None)

    opened(broken)
    with closing(SeveralRuns(["wandb", "trackio"], tmp_path)) as tracked:
        for run in ("a", "b"):
            assert tracked.log(run, {}, STEP) == [
                f"{run}: {kind} failed and is left out: OSError: disk full"
                for kind in ("wandb", "trackio")
            ]
            assert tracked.log(run, {}, STEP) == []


def test_what_cannot_be_kept_at_a_runs_end_is_told(opened, tmp_path):
    def unable(kind, run, said):
        def end():
            raise TimeoutError("no answer")

        return Sink(write=lambda scalars, step: None, end=end)

    opened(unable)
    tracked = SeveralRuns(["wandb"], tmp_path)
    tracked.log("a", {}, STEP)
    assert tracked.end("a") == ["a: wandb failed and is left out: TimeoutError: no answer"]
    assert tracked.end("a") == []
