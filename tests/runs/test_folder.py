import pytest
import torch

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import DamagedFileError, OutputError
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.provenance import describe_machine
from rasengan_xl.runs.records import (
    CheckpointLoss,
    DatasetFacts,
    ModelFacts,
    StepRecord,
    standard_error,
)


def record(step):
    return StepRecord(
        step=step,
        loss=0.5,
        gradient_norm=None,
        learning_rate=1e-4,
        seconds=0.1,
        idle_seconds=0.01,
        peak_memory_gib=1.0,
        skipped=True,
    )


def test_what_is_written_is_read_back(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start(RunSettings(seed=3))
    folder.append(record(1))
    folder.append(record(2))
    assert folder.records() == [record(1), record(2)]
    assert folder.read_settings() == RunSettings(seed=3)


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start(RunSettings())
    folder.append(record(1))
    with folder.steps_file.open("a") as file:
        file.write('{"step": 2, "lo')
    assert folder.records() == [record(1)]
    folder.append(record(2))
    assert folder.records() == [record(1), record(2)]


def test_a_line_that_is_no_record_is_named(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start(RunSettings())
    folder.append(record(1))
    with folder.steps_file.open("a") as file:
        file.write('{"step": 2}\n')
    with pytest.raises(DamagedFileError, match="steps.jsonl: line 2 is not what"):
        folder.records()


def test_going_back_drops_later_lines_and_misses_none(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start(RunSettings())
    for step in (1, 2, 3):
        folder.append(record(step))
        folder.append_loss(CheckpointLoss(step=step, loss=0.1, standard_error=0.0, n=2))
    folder.keep_records(2)
    assert [r.step for r in folder.records()] == [1, 2]
    assert [loss.step for loss in folder.losses()] == [1, 2]
    with pytest.raises(OutputError, match="does not hold the steps 1 to 3"):
        folder.keep_records(3)


def test_the_newest_checkpoints_stay_and_come_first(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.checkpoints_folder.mkdir(parents=True)
    for step in (100, 1_000_000, 20):
        folder.checkpoint_file(step).write_text("x")
    (folder.checkpoints_folder / "step-000300.safetensors.damaged").write_text("x")
    assert list(folder.checkpoints()) == [1_000_000, 100, 20]
    folder.drop_old_checkpoints(keep=2)
    assert list(folder.checkpoints()) == [1_000_000, 100]
    folder.put_aside_checkpoints(after=100)
    assert list(folder.checkpoints()) == [100]


@pytest.fixture
def begun_on_two(tmp_path):
    """A run of two processes that was killed before its first checkpoint."""
    folder = RunFolder(tmp_path / "run")
    folder.start(RunSettings())
    machine = describe_machine(torch.device("cpu"), processes=2)
    facts = DatasetFacts(
        source="mini",
        revision=None,
        found=2,
        train=1,
        held_out=1,
        fingerprint="ab",
        skipped={},
        ignored_files={},
        upscaled=0,
        captions_cut=0,
    )
    folder.write_origin(machine, facts, ModelFacts(name="mini", revision=None, parts={}))
    return folder


def test_without_a_checkpoint_the_number_of_processes_tells_how_large_a_step_was(begun_on_two):
    begun_on_two.check_resumable(RunSettings(), processes=2)
    with pytest.raises(OutputError, match="a step was over 8 pictures, is over 4"):
        begun_on_two.check_resumable(RunSettings(), processes=1)


def test_a_used_folder_is_not_started_again(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start(RunSettings())
    with pytest.raises(OutputError, match="--resume"):
        folder.start(RunSettings())


def test_a_folder_with_nothing_but_a_draft_is_unused(tmp_path):
    (tmp_path / "settings.json.7.part").write_text("{")
    folder = RunFolder(tmp_path)
    folder.start(RunSettings(seed=5))
    assert folder.read_settings().seed == 5


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(OutputError, match="is not writable"):
        RunFolder(tmp_path / "runs" / "new").check_unused()


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        RunFolder(tmp_path / "run").check_unused()


def test_the_standard_error_of_known_values():
    assert standard_error([1.0, 2.0, 3.0, 4.0]) == pytest.approx(0.6454972)
    assert standard_error([1.0]) == 0.0
