"""What the verbs of a comparison do: say what differs, show progress, say where the page is."""

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import cast

from rich.table import Table

from rasengan_xl.cli.console import LineBoard, ProgressBoard, console, progress_board
from rasengan_xl.cli.verbs import say
from rasengan_xl.comparison.examination import EXAMINE
from rasengan_xl.comparison.execute import ComparisonEvent, run_comparison
from rasengan_xl.comparison.layout import ComparisonFolder, subject_of
from rasengan_xl.comparison.places import Place, ThisMachine, count
from rasengan_xl.comparison.plan import PlannedRun, plan_runs, with_seed
from rasengan_xl.comparison.ray_place import RayPlace
from rasengan_xl.comparison.side_by_side import JobEnded, JobProgress, JobRetried
from rasengan_xl.comparison.sweep import Trial, choose_rates, list_trials, settle_rates
from rasengan_xl.config.comparison import differences
from rasengan_xl.config.comparison_settings import ComparisonSettings
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import RecipeError
from rasengan_xl.live.server import Address, serve_forever, serving
from rasengan_xl.report.answer import write_answer
from rasengan_xl.report.joined import write_joined_report
from rasengan_xl.report.page import write_report
from rasengan_xl.report.reading import read_comparison
from rasengan_xl.runs.records import StepRecord
from rasengan_xl.trackers.opening import TrackerKind
from rasengan_xl.trackers.several_runs import SeveralRuns

FAILED_STATUS = 1
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


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


def show_comparison(request: Request, *, on: str, jobs: int | None, watch: bool) -> None:
    """Run a comparison, show every run's progress, write the page; exit 1 if a run failed or could not draw."""
    from rasengan_xl.training.interruption import Stopped, stopping_at_once

    show_differences(request.settings)
    try:
        with stopping_at_once(), _watched(request.folder, watch=watch):
            all_drew = _carry_out(request, on, jobs)
    except Stopped as stop:
        begun = ComparisonFolder(request.folder).is_begun
        left = f"{request.folder} holds what was done so far" if begun else "nothing was written"
        say(f"Stopped: {left}; the same command goes on from there")
        sys.exit(stop.status)
    page = write_report(request.folder)
    comparison = read_comparison(request.folder)
    answer = write_answer(comparison)
    for sentence in filter(None, (answer.finding, answer.cost)):
        say(sentence.replace(NO_BREAK_SPACE, " "))
    say(f"The page is {page}")
    asked = [arm for arm in comparison.arms if not request.only or arm.name in request.only]
    if not all_drew or any(arm.failed for arm in asked):
        sys.exit(FAILED_STATUS)


def _carry_out(request: Request, on: str, jobs: int | None) -> bool:
    """Run the comparison; return whether all that were to draw did."""
    place = _find_place(on, jobs, request.settings)
    try:
        work = run_comparison(
            request.settings,
            request.folder,
            place=place,
            only=request.only,
            command=request.command,
        )
        tracked = SeveralRuns(request.trackers, request.folder / "trackers")
        with progress_board() as board, closing(tracked), closing(work) as events:
            return _follow(events, board, request, tracked)
    finally:
        place.close()


def _follow(
    events: Generator[ComparisonEvent],
    board: ProgressBoard | LineBoard,
    request: Request,
    tracked: SeveralRuns,
) -> bool:
    """Show what happens until the end; return whether all that were to draw did."""
    resolve, all_drew = cache(partial(_resolve, request)), True
    for event in events:
        for line in _show(event, board, resolve, tracked):
            board.say(line)
        if isinstance(event, JobEnded) and event.reason and event.job.startswith(EXAMINE):
            all_drew = False
    return all_drew


def _show(
    event: ComparisonEvent,
    board: ProgressBoard | LineBoard,
    resolve: Callable[[str], RunSettings],
    tracked: SeveralRuns,
) -> Iterator[str]:
    """Move the bars and feed the trackers; yield what the user must be told."""
    match event:
        case JobProgress(job=job, record=StepRecord() as step):
            settings = resolve(job)
            board.show(step, job, settings.training.steps)
            yield from tracked.log(job, settings.model_dump(mode="json"), step)
        case JobProgress():
            board.show(event.record, event.job)
        case JobRetried():
            how = "goes on" if event.resumed else "begins anew"
            yield f"{event.job}: {event.reason}; another worker {how}"
        case JobEnded():
            board.finish(event.job, "failed" if event.reason else "done")
            if event.reason is not None:
                yield f"{event.job} failed: {event.reason}"
            yield from tracked.end(event.job)


def _resolve(request: Request, job: str) -> RunSettings:
    """Return all that a run, or a trial of the sweep, is trained with."""
    folder = ComparisonFolder(request.folder)
    trials = list_trials(request.settings, folder, request.only)
    settled = settle_rates(request.settings, choose_rates(trials))
    known = {trial.name: trial.settings for trial in trials}
    for arm, settings in settled.arms.items():
        known |= {subject_of(arm, s): with_seed(settings, s) for s in request.settings.seeds}
    return known[job]


def _find_place(on: str, jobs: int | None, settings: ComparisonSettings) -> Place:
    if on == "here":
        return ThisMachine(jobs, next(iter(settings.arms.values())).compute.device)
    if jobs is not None:
        raise RecipeError(
            "--jobs: a Ray cluster runs as many at once as it has room for; leave it out"
        )
    return RayPlace(None if on == "ray" else on)


@contextmanager
def _watched(folder: Path, *, watch: bool) -> Generator[None]:
    """Serve the growing report meanwhile, if that was asked for."""
    if not watch:
        yield
        return
    with serving(folder) as address:
        _announce(address, "it is served until this command ends")
        yield


def _announce(address: Address, until: str) -> None:
    if address.note:
        say(address.note)
    say(f"Watch it at {address.url} (this machine only; {until})")


def serve_report(folders: Sequence[Path], out: Path | None = None) -> None:
    """Serve the growing report of one comparison until Ctrl-C."""
    if out is not None:
        raise RecipeError("report --out: a page that is served is not written; leave it out")
    if len(folders) != 1:
        raise RecipeError("report --serve: name one comparison's folder")
    serve_forever(folders[0], lambda address: _announce(address, "Ctrl-C ends it"))


def show_report(folders: Sequence[Path], out: Path | None) -> None:
    """Rebuild the page of one comparison, or put several on one."""
    if len(folders) > 1:
        say(f"The page is {write_joined_report(folders, out or Path('joined'))}")
        return
    if out is not None:
        raise RecipeError("report --out: one comparison's page lies in its folder; leave it out")
    say(f"The page is {write_report(folders[0])}")


def show_differences(settings: ComparisonSettings) -> None:
    """Print in what the arms differ, before anything is done."""
    differing = differences(settings.arms)
    seeds = ", ".join(map(str, settings.seeds))
    title = f"{settings.name}: what differs between the arms (seeds {seeds})"
    table = Table(title=title, title_justify="left")
    table.add_column("setting", no_wrap=True)
    for arm in settings.arms:
        table.add_column(arm)
    for key in next(iter(differing.values())):
        table.add_row(key, *(_short(differing[arm][key]) for arm in settings.arms))
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
        seconds, known = run.predicted_seconds, run.known
        table.add_row(
            run.name,
            {"finished": "finished, kept", "begun": "goes on", "new": "new"}[run.state],
            f"{run.steps_done}/{run.settings.training.steps}",
            "not known yet" if seconds is None else f"{seconds:.0f} s",
            f"{known.peak_memory_gib:.2f} GiB ({known.device_name})" if known else "not known yet",
        )
    return table


def _short(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, cast("list[object]", value)))
    return str(value)
