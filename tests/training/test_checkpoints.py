import json
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rasengan_xl.errors import OutputError, UnwritableError
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import RunSummary, StageProgress, StepRecord
from rasengan_xl.training import assembly
from rasengan_xl.training.run import run_training


def stop_after(step, settings, folder, *, resume=False):
    """Begin or continue a run, and close it after a step, as Ctrl-C does."""
    run = run_training(settings, folder, resume=resume)
    for record in run:
        if isinstance(record, StepRecord) and record.step == step:
            run.close()
            return
    raise AssertionError("the run ended before that")


def notes_of(records):
    return [r.note for r in records if isinstance(r, StageProgress) and r.note]


def summary_of(folder):
    return RunSummary.model_validate_json(folder.summary_file.read_text())


def assert_same(first, second):
    """Two runs left the same: adapter, best adapter, losses, measures, trace."""
    assert [r.loss for r in first.records()] == [r.loss for r in second.records()]
    assert first.losses() == second.losses()
    assert first.best() == second.best()
    assert first.adapter_file.read_bytes() == second.adapter_file.read_bytes()
    if first.best():
        assert first.best_adapter_file.read_bytes() == second.best_adapter_file.read_bytes()
    assert summary_of(first).trace_hash == summary_of(second).trace_hash
    assert summary_of(first).held_out_loss == summary_of(second).held_out_loss


@pytest.fixture
def often(settings):
    """Settings of a run of six steps, with a checkpoint at every second one."""

    def build(**training):
        return settings(training={"steps": 6, "save_every": 2, **training})

    return build


@pytest.fixture
def whole(often, tmp_path):
    """The run that nothing disturbed."""
    folder = RunFolder(tmp_path / "whole")
    list(run_training(often(), folder))
    return folder


def test_the_newest_checkpoints_and_the_best_adapter_are_kept(whole):
    assert list(whole.checkpoints()) == [6, 4]
    losses = whole.losses()
    assert [loss.step for loss in losses] == [2, 4, 6]
    assert {loss.n for loss in losses} == {3 * 2}
    lowest = min(losses, key=lambda loss: loss.loss)
    best = summary_of(whole).best
    assert (best.step, best.loss, best.n) == (lowest.step, lowest.loss, lowest.n)
    assert json.loads((whole.path / "best" / "best.json").read_text()) == best.model_dump()
    assert load_file(whole.best_adapter_file).keys() == load_file(whole.adapter_file).keys()


def test_the_best_adapter_is_that_of_its_step(often, tmp_path, monkeypatch):
    given = {2: 0.5, 4: 0.3, 6: 0.4}

    def measured(adapter, *_):
        yield StageProgress(stage="held-out loss", done=1, total=1)
        return [[given.pop(min(given))]]

    monkeypatch.setattr("rasengan_xl.training.course.measure_losses", measured)
    folder = RunFolder(tmp_path / "run")
    run = run_training(often(), folder)
    for record in run:
        if isinstance(record, StageProgress) and record.stage == "train" and record.done == 4:
            learnt = load_file(folder.adapter_file)
    assert folder.best().step == 4
    best, last = load_file(folder.best_adapter_file), load_file(folder.adapter_file)
    assert all(torch.equal(best[name], learnt[name]) for name in learnt)
    assert any(not torch.equal(best[name], last[name]) for name in learnt)


def test_measuring_on_the_way_changes_nothing_of_the_training(settings, whole, tmp_path):
    unmeasured = settings(
        training={"steps": 6, "save_every": 2}, evaluation={"checkpoint_pictures": 0}
    )
    folder = RunFolder(tmp_path / "unmeasured")
    list(run_training(unmeasured, folder))
    assert [r.loss for r in folder.records()] == [r.loss for r in whole.records()]
    assert folder.adapter_file.read_bytes() == whole.adapter_file.read_bytes()
    assert summary_of(folder).best is None
    assert not folder.held_out_file.exists()


@pytest.mark.parametrize("step", [1, 2, 3, 5, 6])
def test_a_run_stopped_at_any_step_ends_as_if_it_had_not_been(often, whole, tmp_path, step):
    folder = RunFolder(tmp_path / "broken")
    stop_after(step, often(), folder)
    assert summary_of(folder).status == "interrupted"
    assert notes_of(run_training(often(), folder, resume=True)) == []
    assert_same(folder, whole)


def test_a_damaged_checkpoint_is_told_of_and_the_one_before_taken(often, whole, tmp_path):
    folder = RunFolder(tmp_path / "broken")
    stop_after(5, often(), folder)
    damaged = folder.checkpoint_file(5)
    content = bytearray(damaged.read_bytes())
    content[-9] ^= 1
    damaged.write_bytes(content)
    (note,) = notes_of(run_training(often(), folder, resume=True))
    assert note == f"{damaged}: is not what was written: it is put aside, going back to step 4"
    assert damaged.with_name("step-000005.safetensors.damaged").read_bytes() == bytes(content)
    assert_same(folder, whole)


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew_in_silence(often, tmp_path):
    folder = RunFolder(tmp_path / "broken")
    stop_after(3, often(), folder)
    for file in folder.checkpoints().values():
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(OutputError, match="step-000003.safetensors: is not a whole .* anew"):
        list(run_training(often(), folder, resume=True))
    assert len(folder.checkpoints()) == 2
    assert len(folder.records()) == 3


def test_a_full_disk_loses_only_the_steps_since_the_last_checkpoint(often, whole, tmp_path):
    folder = RunFolder(tmp_path / "broken")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def train_until_the_disk_is_full():
        for record in run_training(often(), folder):
            if isinstance(record, StepRecord) and record.step == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    try:
        with pytest.raises(
            UnwritableError,
            match=r"step-000004.safetensors: cannot be written: File too large; .*; "
            r"then continue with --resume from step 2, which is safe",
        ):
            train_until_the_disk_is_full()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(folder.checkpoints()) == [2]
    assert [file.name for file in folder.checkpoints_folder.iterdir()] == [
        "step-000002.safetensors"
    ]
    list(run_training(often(), folder, resume=True))
    assert_same(folder, whole)


def test_a_log_that_cannot_be_written_ends_the_run_in_one_line(often, tmp_path):
    folder = RunFolder(tmp_path / "broken")

    def train_until_the_disk_is_full():
        for record in run_training(often(), folder):
            if isinstance(record, StageProgress) and record.stage == "train":
                folder.steps_file.symlink_to("/dev/full")

    with pytest.raises(UnwritableError, match="steps.jsonl: cannot be written: No space left"):
        train_until_the_disk_is_full()


def test_harmless_changes_are_taken_and_kept(often, whole, tmp_path):
    folder = RunFolder(tmp_path / "broken")
    stop_after(2, often(), folder)
    other = often(
        batch_size=1,
        accumulation=2,
        keep_checkpoints=1,
    )
    list(run_training(other, folder, resume=True))
    assert folder.read_settings() == other
    assert list(folder.checkpoints()) == [6]
    assert summary_of(folder).trace_hash
    pairs = zip(folder.records(), whole.records(), strict=True)
    assert all(ours.loss == pytest.approx(theirs.loss, rel=1e-4) for ours, theirs in pairs)


def test_harmful_changes_are_refused_by_name_before_anything_is_touched(often, tmp_path):
    folder = RunFolder(tmp_path / "broken")
    stop_after(2, often(), folder)
    before = {f: f.read_bytes() for f in folder.path.rglob("*") if f.is_file()}
    with pytest.raises(
        OutputError,
        match=r"other settings: training.batch_size was 2, is 1; training.learning_rate was "
        r"0.01, is 0.5; continue it unchanged",
    ):
        list(run_training(often(batch_size=1, learning_rate=0.5), folder, resume=True))
    assert {f: f.read_bytes() for f in folder.path.rglob("*") if f.is_file()} == before


def test_a_finished_run_is_left_alone(often, whole):
    before = {f: f.stat().st_mtime_ns for f in whole.path.rglob("*")}
    (note,) = notes_of(run_training(often(), whole, resume=True))
    assert note == f"{whole.path}: is already finished; nothing was done"
    assert {f: f.stat().st_mtime_ns for f in whole.path.rglob("*")} == before


def test_a_run_stopped_before_its_first_step_can_be_continued(often, whole, tmp_path):
    folder = RunFolder(tmp_path / "broken")
    run = run_training(often(), folder)
    for record in run:
        if isinstance(record, StageProgress) and record.stage == "train":
            run.close()
            break
    assert not folder.checkpoints()
    list(run_training(often(), folder, resume=True))
    assert_same(folder, whole)


def test_another_precision_is_told_of(often, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "broken")
    stop_after(2, often(), folder)
    build = assembly._new_state

    def as_on_another_machine(*arguments):
        made = build(*arguments)
        made.precision = "float16"
        return made

    monkeypatch.setattr(assembly, "_new_state", as_on_another_machine)
    (note,) = notes_of(run_training(often(), folder, resume=True))
    assert "compute.precision was float32, is float16 on this machine" in note


def test_the_best_is_sought_anew_when_another_number_is_measured(settings, tmp_path):
    folder = RunFolder(tmp_path / "run")
    common = {"steps": 6, "save_every": 2}
    stop_after(4, settings(training=common), folder)
    folder.write_best(folder.best().model_copy(update={"loss": 0.0}))
    fewer = settings(training=common, evaluation={"checkpoint_pictures": 1})
    list(run_training(fewer, folder, resume=True))
    lowest = min((loss for loss in folder.losses() if loss.n == 2), key=lambda loss: loss.loss)
    assert (folder.best().step, folder.best().n) == (lowest.step, 2)


def test_drafts_of_a_killed_process_are_gone_after_resuming(often, tmp_path):
    folder = RunFolder(tmp_path / "run")
    stop_after(3, often(), folder)
    draft = Path(f"{folder.checkpoint_file(4)}.77.part")
    draft.write_text("half")
    list(run_training(often(), folder, resume=True))
    assert not draft.exists()
