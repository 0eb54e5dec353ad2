"""What the verbs of a comparison do: say what differs, show progress, say where the page is."""

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache, partial
from pathlib import Path

from rasengan_xl.cli.console import LineBoard, ProgressBoard, progress_board, say
from rasengan_xl.cli.planning import Request, show_differences
from rasengan_xl.comparison.examination import EXAMINE
from rasengan_xl.comparison.execute import ComparisonEvent, run_comparison
from rasengan_xl.comparison.layout import ComparisonFolder, subject_of
from rasengan_xl.comparison.places import Place, ThisMachine
from rasengan_xl.comparison.plan import with_seed
from rasengan_xl.comparison.ray_place import RayPlace
from rasengan_xl.comparison.side_by_side import JobEnded, JobProgress, JobRetried
from rasengan_xl.comparison.sweep import choose_rates, list_trials, settle_rates
from rasengan_xl.config.comparison_settings import ComparisonSettings
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import RecipeError
from rasengan_xl.live.server import Address, serve_forever, serving
from rasengan_xl.report.answer import write_answer
from rasengan_xl.report.joined import write_joined_report
from rasengan_xl.report.page import write_report
from rasengan_xl.report.reading import read_comparison
from rasengan_xl.runs.records import StepRecord
from rasengan_xl.trackers.several_runs import SeveralRuns

FAILED_STATUS = 1
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def show_comparison(request: Request, *, on: str, jobs: int | None, watch: bool) -> None:
    """Run a comparison, show every run's progress, write the page; exit 1 if anything failed."""
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
