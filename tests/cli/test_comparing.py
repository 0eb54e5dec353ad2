import io
from dataclasses import replace

import pytest
from rich.console import Console

from rasengan_xl.cli import comparing, planning
from rasengan_xl.cli.planning import Request
from rasengan_xl.comparison.layout import ComparisonFolder
from rasengan_xl.comparison.side_by_side import JobEnded, JobProgress, JobRetried
from rasengan_xl.comparison.sweep import keep_failure, list_trials
from rasengan_xl.config.command_line import write_command
from rasengan_xl.config.comparison import load_comparison
from rasengan_xl.errors import DeviceError, RecipeError
from rasengan_xl.report.answer import write_answer
from rasengan_xl.runs.records import StageProgress, StepRecord
from rasengan_xl.trackers.opening import check_trackers

from ..report.sample import build_arm, build_comparison, build_run, build_summary

STEP = StepRecord(
    step=1,
    loss=0.25,
    gradient_norm=1.0,
    learning_rate=1e-4,
    seconds=0.5,
    idle_seconds=0.1,
    peak_memory_gib=1.5,
)
SAMPLE = build_comparison(build_arm("lora"), build_arm("dora"))
STEPS = load_comparison("mini").arms["lora"].training.steps
DONE = JobEnded(job="lora/seed-0", attempts=1, seconds=9.0)


@pytest.fixture
def request_of(tmp_path):
    settings = load_comparison("mini")
    return Request(settings=settings, folder=tmp_path / "out", only=(), command="rasengan compare")


@pytest.fixture
def events(monkeypatch):
    """Let a comparison consist of the given events."""

    def become(*given):
        def run(*_, **__):
            yield from given

        monkeypatch.setattr(comparing, "run_comparison", run)
        monkeypatch.setattr(comparing, "write_report", lambda folder: folder / "report.html")
        monkeypatch.setattr(comparing, "read_comparison", lambda _: SAMPLE)

    return become


def show(request, **options):
    comparing.show_comparison(request, on="here", jobs=None, watch=False, **options)


def test_a_comparison_with_a_failed_run_says_so_and_exits_with_1(
    events, request_of, capsys, monkeypatch
):
    failed = build_run("dora", status="failed", reason="out of memory", summary=None)
    found = build_comparison(build_arm("lora"), build_arm("dora", runs=[failed]))
    events(
        JobProgress(job="prepare", record=StageProgress(stage="read", done=1, total=1)),
        JobProgress(job="lora/seed-0", record=STEP),
        DONE,
        JobEnded(job="dora/seed-0", attempts=1, seconds=1.0, reason="out of memory"),
    )
    monkeypatch.setattr(comparing, "read_comparison", lambda _: found)
    with pytest.raises(SystemExit) as caught:
        show(request_of)
    assert caught.value.code == 1
    shown = capsys.readouterr().out
    assert f"lora/seed-0: train 1/{STEPS}" in shown
    assert "dora/seed-0 failed: out of memory" in shown
    assert "out/report.html" in shown


def test_a_comparison_whose_runs_finish_ends_well(events, request_of, capsys):
    events(JobProgress(job="lora/seed-0", record=STEP), DONE)
    show(request_of)
    said = capsys.readouterr().out
    assert "failed" not in said
    finding = write_answer(SAMPLE).finding.replace("\N{NO-BREAK SPACE}", " ")
    assert finding in said.replace("\n", " ")


def test_a_learning_rate_that_fails_is_told_and_ends_nothing(events, request_of, capsys):
    events(JobEnded(job="lora at 0.1", attempts=1, seconds=1.0, reason="not finite"), DONE)
    show(request_of)
    assert "lora at 0.1 failed: not finite" in capsys.readouterr().out


def test_a_run_that_failed_but_was_not_asked_for_now_ends_nothing(events, request_of, monkeypatch):
    failed = build_run("dora", status="failed", reason="out of memory", summary=None)
    found = build_comparison(build_arm("lora"), build_arm("dora", runs=[failed]))
    events(DONE)
    monkeypatch.setattr(comparing, "read_comparison", lambda _: found)
    show(replace(request_of, only=("lora",)))


def test_without_a_cost_nothing_is_said_of_it(events, request_of, capsys, monkeypatch):
    events(DONE)
    answer = replace(write_answer(SAMPLE), cost="")
    monkeypatch.setattr(comparing, "write_answer", lambda _: answer)
    show(request_of)
    said = capsys.readouterr().out
    assert "\n\n" not in said[said.index(answer.finding[:20].replace("\u00a0", " ")) :]


def test_a_comparison_whose_pictures_are_missing_exits_with_1(events, request_of, capsys):
    events(DONE, JobEnded(job="draw and judge 2", attempts=1, seconds=1.0, reason="not finite"))
    with pytest.raises(SystemExit) as caught:
        show(request_of)
    assert caught.value.code == 1
    assert "draw and judge 2 failed: not finite" in capsys.readouterr().out


def test_a_lost_worker_is_told_of(events, request_of, capsys):
    events(JobRetried(job="lora/seed-0", reason="killed by signal 9", resumed=True), DONE)
    show(request_of)
    assert "lora/seed-0: killed by signal 9; another worker goes on" in capsys.readouterr().out


def test_every_step_of_every_run_goes_to_the_trackers(events, request_of, tmp_path):
    events(JobProgress(job="lora/seed-0", record=STEP), DONE)
    show(replace(request_of, trackers=check_trackers(["tensorboard"])))
    assert list((tmp_path / "out" / "trackers" / "lora" / "seed-0").glob("events.*"))


class Kept:
    """Stands in for trackers, and keeps with which settings a run is tracked."""

    def __init__(self):
        self.settings = {}

    def __call__(self, *_):
        return self

    def log(self, run, settings, record):
        self.settings[run] = settings
        return [f"{run} is tracked"]

    def end(self, run):
        return [f"{run} could not be kept"]

    def close(self):
        pass


def test_a_run_is_tracked_with_its_own_settings_and_a_trial_with_those(
    events, request_of, monkeypatch, capsys
):
    sweep = ["sweep.learning_rate=[1e-3, 1e-2]", "sweep.steps=17", "evaluation.tuning_pictures=16"]
    settings = load_comparison("mini", sweep)
    kept = Kept()
    monkeypatch.setattr(comparing, "SeveralRuns", kept)
    begun = ComparisonFolder(request_of.folder).run("lora", 0)
    training = settings.arms["lora"].training.model_copy(update={"learning_rate": 1e-2})
    begun.start(settings.arms["lora"].model_copy(update={"training": training}))
    events(
        JobProgress(job="dora at 0.001", record=STEP),
        JobProgress(job="lora/seed-0", record=STEP),
        DONE,
    )
    show(replace(request_of, settings=settings))
    trial, run = kept.settings["dora at 0.001"], kept.settings["lora/seed-0"]
    assert (trial["seed"], trial["training"]["steps"]) == (1000, 17)
    assert (run["seed"], run["training"]["learning_rate"]) == (0, 1e-2)
    shown = capsys.readouterr().out
    assert "dora at 0.001: train 1/17" in shown
    assert f"lora/seed-0: train 1/{STEPS}" in shown
    assert "lora/seed-0 is tracked" in shown
    assert "lora/seed-0 could not be kept" in shown


def test_an_unknown_tracker_is_refused_before_any_work():
    with pytest.raises(
        DeviceError, match="--track tensorbord: is unknown; give one of tensorboard"
    ):
        check_trackers(["tensorbord"])


def test_what_differs_is_printed_first(capsys):
    planning.show_differences(load_comparison("mini"))
    shown = capsys.readouterr().out
    assert "adapter.rank" in shown
    assert "training" not in shown


def test_a_dry_run_lists_every_run_and_writes_nothing(request_of, monkeypatch):
    wide = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(planning, "console", wide)
    monkeypatch.setattr(planning, "say", wide.print)
    settings = load_comparison("mini", ["seeds=[0,1]"])
    planning.show_plan(replace(request_of, settings=settings))
    shown = wide.file.getvalue()
    for arm in settings.arms:
        for seed in (0, 1):
            assert f"{arm}/seed-{seed}" in shown
    assert "8 runs are left; the time is known once one like it has finished" in shown
    assert not request_of.folder.exists()


def test_a_dry_run_with_a_sweep_lists_the_rates_first(request_of, capsys):
    sweep = ["sweep.learning_rate=[1e-3, 1e-2]", "evaluation.tuning_pictures=16"]
    planning.show_plan(replace(request_of, settings=load_comparison("mini", sweep)))
    shown = capsys.readouterr().out
    assert f"learning rate to be tried: dora at 0.01, {STEPS} steps" in shown
    assert "then every arm with the rate that did best (seeds 0)" in shown


def test_a_dry_run_gets_past_rates_that_failed(request_of, monkeypatch):
    wide = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(planning, "console", wide)
    monkeypatch.setattr(planning, "say", wide.print)
    sweep = ["sweep.learning_rate=[1e-3, 1e-2]", "evaluation.tuning_pictures=16"]
    settings = load_comparison("mini", sweep)
    folder = ComparisonFolder(request_of.folder)
    folder.keep_settings(settings)
    for trial in list_trials(settings, folder):
        trial.folder.start(trial.settings)
        end = JobEnded(job=trial.name, attempts=1, seconds=1.0, reason="step 3: not finite")
        keep_failure(trial, end)
    planning.show_plan(replace(request_of, settings=settings, only=("lora",)))
    shown = wide.file.getvalue()
    assert "to be tried" not in shown
    assert "lora at 0.001 failed: step 3: not finite (it is not tried again" in shown
    assert "lora: cannot be trained, since none of its learning rates could" in shown
    assert "left" not in shown
    assert "dora: cannot" not in shown


def test_a_dry_run_says_that_the_named_arm_is_done_whatever_the_others_lack(request_of, capsys):
    sweep = ["sweep.learning_rate=[1e-3, 1e-2]", "evaluation.tuning_pictures=16"]
    settings = load_comparison("mini", sweep)
    folder = ComparisonFolder(request_of.folder)
    folder.keep_settings(settings)
    run = folder.run("lora", 0)
    training = settings.arms["lora"].training.model_copy(update={"learning_rate": 1e-3})
    run.start(settings.arms["lora"].model_copy(update={"training": training}))
    run.write_summary(build_summary("lora", 0))
    planning.show_plan(replace(request_of, settings=settings, only=("lora",)))
    shown = capsys.readouterr().out
    assert "every run is finished" in shown
    assert "cannot be trained" not in shown


def test_one_run_that_is_left_is_told_as_one(request_of, capsys):
    planning.show_plan(replace(request_of, only=("lora",)))
    assert "1 run is left; " in capsys.readouterr().out


def test_a_page_that_is_served_is_written_nowhere(tmp_path):
    with pytest.raises(RecipeError, match="report --out: a page that is served is not written"):
        comparing.serve_report([tmp_path], tmp_path / "joined")


def test_jobs_are_not_for_a_cluster(request_of):
    with pytest.raises(RecipeError, match="--jobs"):
        comparing.show_comparison(request_of, on="ray", jobs=2, watch=False)


def test_a_command_is_written_so_that_it_can_be_typed_again(tmp_path):
    written = write_command("compare", "mini", ["seeds=[0, 1]", "name=x"], tmp_path / "my out")
    assert written == (
        f"rasengan compare mini --set 'seeds=[0, 1]' --set name=x --out '{tmp_path}/my out'"
    )
