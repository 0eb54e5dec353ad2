import json
import os
import time

import pytest

from rasengan_xl.comparison.result import RunResult
from rasengan_xl.live.state import FolderWatch
from rasengan_xl.live.tail import Tail

from . import growing_folder as growing


def look(folder):
    return FolderWatch(folder).look()


def find_run(state, arm="lora", seed=0):
    return next(run for run in state.runs if (run.arm, run.seed) == (arm, seed))


def test_a_folder_that_does_not_exist_yet_is_preparing(tmp_path):
    state = look(tmp_path / "later")
    assert (state.status, state.runs, state.pictures, state.notes) == ("preparing", [], [], [])
    assert state.name == "later"


def test_every_run_is_known_before_it_begins(tmp_path):
    growing.write_settings(tmp_path)
    state = look(tmp_path)
    assert [(run.arm, run.seed) for run in state.runs] == [
        ("lora", 0),
        ("lora", 1),
        ("dora", 0),
        ("dora", 1),
    ]
    assert {run.stage for run in state.runs} == {"waiting"}
    assert (state.status, state.steps, state.seconds_left) == ("running", 4 * growing.STEPS, None)


def test_a_run_is_followed_from_its_start_to_its_end(tmp_path):
    growing.write_settings(tmp_path)
    watch = FolderWatch(tmp_path)
    stages = []

    def note():
        run = find_run(watch.look())
        stages.append((run.stage, run.step))

    note()
    run = growing.open_run(tmp_path)
    note()
    growing.add_steps(run, 1, 10)
    note()
    growing.add_steps(run, 11, 40)
    note()
    growing.finish(run)
    note()
    assert stages == [
        ("waiting", 0),
        ("starting", 0),
        ("training", 10),
        ("measuring", 40),
        ("finished", 40),
    ]


def test_a_training_run_tells_pace_memory_and_time_left(tmp_path):
    growing.write_settings(tmp_path, arms=("lora",), seeds=(0, 1))
    growing.add_steps(growing.open_run(tmp_path), 1, 10, seconds=0.5)
    state = look(tmp_path)
    run = find_run(state)
    assert (run.seconds_per_step, run.seconds_left, run.peak_memory_gib) == (0.5, 15.0, 1.25)
    assert len(run.curve.points) == 10
    assert state.seconds_left == 15.0 + 20.0  # the second run is taken to be as fast
    assert state.step == 10


def test_runs_side_by_side_share_the_time_left(tmp_path):
    growing.write_settings(tmp_path, arms=("lora", "dora"), seeds=(0,))
    growing.add_steps(growing.open_run(tmp_path, "lora"), 1, 20, seconds=0.5)
    growing.add_steps(growing.open_run(tmp_path, "dora"), 1, 20, seconds=1.5)
    assert look(tmp_path).seconds_left == (10 + 30) / 2


def test_a_half_written_step_is_left_for_later(tmp_path):
    growing.write_settings(tmp_path)
    run = growing.open_run(tmp_path)
    growing.add_steps(run, 1, 3)
    line = json.dumps(growing.build_step(4, loss=0.25).to_json())
    with run.steps_file.open("a") as log:
        log.write(line[:30])
    watch = FolderWatch(tmp_path)
    assert find_run(watch.look()).step == 3
    with run.steps_file.open("a") as log:
        log.write(f"{line[30:]}\n")
    assert find_run(watch.look()).curve.points[-1] == (4, 0.25)


def test_a_damaged_line_does_not_hide_the_others(tmp_path):
    growing.write_settings(tmp_path)
    run = growing.open_run(tmp_path)
    growing.add_steps(run, 1, 2)
    with run.steps_file.open("a") as log:
        log.write("{broken\n")
    growing.add_steps(run, 3, 3)
    assert find_run(look(tmp_path)).step == 3


def test_a_step_that_is_not_finite_is_left_out_of_what_the_page_gets(tmp_path):
    growing.write_settings(tmp_path)
    run = growing.open_run(tmp_path)
    growing.add_steps(run, 1, 2)
    broken = growing.build_step(3, loss=float("nan"), seconds=float("inf")).to_json()
    with run.steps_file.open("a") as log:
        log.write(json.dumps(broken) + "\n")
    state = look(tmp_path)
    assert find_run(state).step == 2
    assert find_run(state).seconds_per_step == 0.5
    assert "null" not in json.dumps(json.loads(state.model_dump_json())["runs"][0]["curve"])


def test_a_run_that_goes_back_to_a_checkpoint_goes_back_here_too(tmp_path):
    growing.write_settings(tmp_path)
    run = growing.open_run(tmp_path)
    growing.add_steps(run, 1, 12)
    growing.add_checkpoint(run, 6)
    growing.add_checkpoint(run, 12)
    watch = FolderWatch(tmp_path)
    assert find_run(watch.look()).step == 12
    run.keep_records(6)
    resumed = find_run(watch.look())
    assert (resumed.step, len(resumed.curve.points)) == (6, 6)
    assert [loss.step for loss in resumed.checkpoints] == [6]


def test_held_out_losses_come_as_they_are_measured(tmp_path):
    growing.write_settings(tmp_path)
    run = growing.open_run(tmp_path)
    growing.add_steps(run, 1, 20)
    watch = FolderWatch(tmp_path)
    assert find_run(watch.look()).checkpoints == []
    growing.add_checkpoint(run, 20, loss=0.125)
    (measured,) = find_run(watch.look()).checkpoints
    assert (measured.step, measured.loss, measured.n) == (20, 0.125, 128)
    assert find_run(watch.look()).held_out_loss is None
    growing.finish(run)
    assert find_run(watch.look()).held_out_loss.difference == -0.0124


def test_a_failed_run_gives_its_reason(tmp_path):
    growing.write_settings(tmp_path)
    growing.add_steps(growing.open_run(tmp_path, "dora", 1), 1, 9)
    growing.write_result(tmp_path, {"dora": [growing.failed_run("dora", 1)]})
    run = find_run(look(tmp_path), "dora", 1)
    assert (run.stage, run.reason) == ("failed", "out of memory at step 9")
    assert run.seconds_left is None


def test_a_run_that_was_not_run_yet_is_waiting(tmp_path):
    growing.write_settings(tmp_path)
    missing = RunResult(seed=0, status="missing", run="arms/lora/seed-0")
    growing.write_result(tmp_path, {"lora": [missing]})
    assert find_run(look(tmp_path)).stage == "waiting"


def test_an_interrupted_run_is_stopped_until_it_is_continued(tmp_path):
    growing.write_settings(tmp_path)
    run = growing.open_run(tmp_path)
    growing.add_steps(run, 1, 10)
    growing.finish(run, "interrupted", steps=10)
    watch = FolderWatch(tmp_path)
    assert find_run(watch.look()).stage == "stopped"
    growing.add_steps(run, 11, 11)
    assert find_run(watch.look()).stage == "training"


def test_a_run_that_fell_silent_says_for_how_long(tmp_path):
    growing.write_settings(tmp_path)
    run = growing.open_run(tmp_path)
    growing.add_steps(run, 1, 5)
    long_ago = time.time() - 300
    os.utime(run.steps_file, (long_ago, long_ago))
    assert find_run(look(tmp_path)).seconds_silent == pytest.approx(300, abs=30)


def test_a_comparison_is_finished_when_its_result_says_so(tmp_path):
    growing.write_settings(tmp_path)
    watch = FolderWatch(tmp_path)
    growing.write_result(tmp_path, {}, "running")
    assert (watch.look().status, watch.look().has_report) == ("running", False)
    growing.write_result(tmp_path, {}, "finished")
    (tmp_path / "report.html").write_text("<!doctype html>")
    assert (watch.look().status, watch.look().has_report) == ("finished", True)


@pytest.mark.parametrize("name", ["settings.json", "comparison.json"])
def test_a_file_that_cannot_be_read_is_told(tmp_path, name):
    growing.write_settings(tmp_path)
    (tmp_path / name).write_text("{")
    (note,) = look(tmp_path).notes
    assert str(tmp_path / name) in note


def test_pictures_appear_once_they_are_whole(tmp_path):
    growing.write_settings(tmp_path)
    watch = FolderWatch(tmp_path)
    growing.draw_sample(tmp_path, "base/000.png")
    file = growing.draw_sample(tmp_path, "lora/seed-1/000.png")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert [picture.path for picture in watch.look().pictures] == ["drawn/base/shown/000.png"]
    file.write_bytes(whole)
    base, adapted = watch.look().pictures
    assert (base.arm, base.seed) == ("base", None)
    assert (adapted.arm, adapted.seed, adapted.prompt, adapted.noise_seed) == (
        "lora",
        1,
        "a ninja at night",
        5,
    )


def test_a_picture_drawn_again_is_told_apart(tmp_path):
    growing.write_settings(tmp_path)
    watch = FolderWatch(tmp_path)
    file = growing.draw_sample(tmp_path, "base/000.png")
    (before,) = watch.look().pictures
    os.utime(file, ns=(before.changed + 10**9, before.changed + 10**9))
    (after,) = watch.look().pictures
    assert after.changed > before.changed


def test_something_else_named_like_a_picture_is_left_out(tmp_path):
    growing.write_settings(tmp_path)
    shown = tmp_path / "drawn" / "base" / "shown"
    shown.mkdir(parents=True)
    (shown / "x.png").write_bytes(b"no picture" + b"IEND\xaeB`\x82")
    assert look(tmp_path).pictures == []


def test_a_look_reads_only_what_is_new(tmp_path, monkeypatch):
    growing.write_settings(tmp_path, arms=("a", "b", "c", "d"), seeds=(0, 1, 2), steps=1000)
    runs = [growing.open_run(tmp_path, arm, seed) for arm in "abcd" for seed in (0, 1, 2)]
    for run in runs:
        growing.add_steps(run, 1, 990)
    watch = FolderWatch(tmp_path)
    watch.look()
    read = []
    finished_lines = Tail._read_finished_lines

    def count(tail, log):
        lines = finished_lines(tail, log)
        read.extend(lines)
        return lines

    monkeypatch.setattr(Tail, "_read_finished_lines", count)
    for run in runs:
        growing.add_steps(run, 991, 991)
    state = watch.look().model_dump_json()
    assert len(read) == 12
    assert len(state) < 200_000
