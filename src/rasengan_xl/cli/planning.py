"""Say what a comparison would do: in what its arms differ, which runs are left, what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from rasengan_xl.cli.console import console, say
from rasengan_xl.cli.foretelling import Question, show_plans
from rasengan_xl.comparison.layout import ComparisonFolder
from rasengan_xl.comparison.places import count
from rasengan_xl.comparison.plan import PlannedRun, plan_runs
from rasengan_xl.comparison.sweep import Trial, choose_rates, list_trials, settle_rates
from rasengan_xl.config.comparison import differences
from rasengan_xl.config.comparison_settings import ComparisonSettings
from rasengan_xl.planning.gpus import gpu_here
from rasengan_xl.report.settings import write_setting
from rasengan_xl.trackers.opening import TrackerKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A comparison that was asked for."""

    settings: ComparisonSettings
    folder: Path
    only: tuple[str, ...]
    command: str
    """What repeats it."""
    trackers: tuple[TrackerKind, ...] = ()
    """Where else every step is written."""


def show_differences(settings: ComparisonSettings) -> None:
    """Print in what the arms differ, before anything is done."""
    differing = differences(settings.arms)
    seeds = ", ".join(map(str, settings.seeds))
    title = f"{settings.name}: what differs between the arms (seeds {seeds})"
    table = Table(title=title, title_justify="left")
    table.add_column("setting", no_wrap=True)
    for arm in settings.arms:
        table.add_column(arm, overflow="fold")
    for key in next(iter(differing.values())):
        table.add_row(key, *(write_setting(differing[arm][key]) for arm in settings.arms))
    console.print(table)


def show_plan(request: Request) -> None:
    """Print which runs would be trained now, and what such runs have cost before."""
    show_differences(request.settings)
    folder = ComparisonFolder(request.folder)
    folder.begun_settings()
    trials = list_trials(request.settings, folder, request.only)
    for trial in trials:
        _say_trial(trial)
    if any(trial.is_waiting for trial in trials):
        seeds = ", ".join(map(str, request.settings.seeds))
        arms = " and ".join(request.only) or "every arm"
        say(f"then {arms} with the rate that did best (seeds {seeds})")
        return
    sweep = choose_rates(trials)
    runs = plan_runs(settle_rates(request.settings, sweep), folder, request.only)
    chosen = {arm for arm, tried in sweep.items() if any(trial.chosen for trial in tried)}
    without = {run.arm for run in runs if run.arm in sweep and run.arm not in chosen}
    planned = [run for run in runs if run.arm not in without]
    if planned:
        console.print(_tabulate(planned))
    for arm in sorted(without):
        say(f"{arm}: cannot be trained, since none of its learning rates could")
    left = [run for run in planned if run.state != "finished"]
    if left or not without:
        _say_left(left)
    _foretell(request.settings, left)


def _foretell(settings: ComparisonSettings, left: Sequence[PlannedRun]) -> None:
    """Show what the runs that are left would take of this machine's GPU."""
    arms = {run.arm: run.settings for run in left if not run.settings.is_given}
    gpu = gpu_here()
    if gpu is None:
        say(f"what a GPU would need for it: rasengan plan {settings.name} --gpu T4")
    elif arms:
        question = Question(arms=arms, seeds=len(settings.seeds), gpus=[gpu])
        show_plans(question, as_json=False)


def _say_trial(trial: Trial) -> None:
    """Say what is to come of a learning rate; nothing of one that was tried."""
    if trial.is_waiting:
        say(f"learning rate to be tried: {trial.name}, {trial.settings.training.steps} steps")
    elif trial.failure is not None:
        say(
            f"{trial.name} failed: {trial.failure} (it is not tried again, unless you remove "
            f"{trial.folder.path})"
        )


def _say_left(left: Sequence[PlannedRun]) -> None:
    known = [run.predicted_seconds for run in left]
    seconds = [each for each in known if each is not None]
    counted = f"{count(len(left), 'run')} {'is' if len(left) == 1 else 'are'} left"
    if not left:
        say("every run is finished")
    elif len(seconds) == len(left):
        order = " one after another" if len(left) > 1 else ""
        say(f"{counted}: about {sum(seconds) / 60:.1f} min{order}")
    else:
        say(f"{counted}; the time is known once one like it has finished")


def _tabulate(runs: Sequence[PlannedRun]) -> Table:
    table = Table("run", "now", "steps", "time left", "peak memory", box=None)
    for run in runs:
        seconds = run.predicted_seconds
        table.add_row(
            run.name,
            {"finished": "finished, kept", "begun": "goes on", "new": "new"}[run.state],
            _describe_steps(run),
            "not known yet" if seconds is None else f"{seconds:.0f} s",
            _describe_memory(run),
        )
    return table


def _describe_steps(run: PlannedRun) -> str:
    given = run.settings.is_given
    return "not trained" if given else f"{run.steps_done}/{run.settings.training.steps}"


def _describe_memory(run: PlannedRun) -> str:
    if run.settings.is_given:
        return "not trained"
    if run.known is None or run.known.peak_memory_gib is None:
        return "not known yet"
    return f"{run.known.peak_memory_gib:.2f} GiB ({run.known.device_name})"
