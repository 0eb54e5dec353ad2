"""Run a comparison: every run in a process of its own, then the pictures, then the result."""

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rasengan_xl.comparison.cards import write_cards
from rasengan_xl.comparison.collect import collect_comparison
from rasengan_xl.comparison.examination import list_examinations
from rasengan_xl.comparison.facts import FailureFacts, PreparedFacts
from rasengan_xl.comparison.layout import ComparisonFolder
from rasengan_xl.comparison.lock import claim_alone
from rasengan_xl.comparison.orders import Prepare, Train
from rasengan_xl.comparison.places import Place, ThisMachine
from rasengan_xl.comparison.plan import PlannedRun, plan_runs, refuse_changed_origin
from rasengan_xl.comparison.result import RESULT_FILE
from rasengan_xl.comparison.side_by_side import (
    Job,
    JobEnded,
    JobProgress,
    JobRetried,
    carry_out_jobs,
)
from rasengan_xl.comparison.start_arms import settle_arms
from rasengan_xl.comparison.sweep import (
    Sweep,
    Trial,
    choose_rates,
    keep_failure,
    list_trials,
    settle_rates,
)
from rasengan_xl.config.comparison_settings import ComparisonSettings
from rasengan_xl.errors import RasenganError
from rasengan_xl.planning.known_costs import KnownCost, remember_cost
from rasengan_xl.runs.folder import read_if_sound, read_record
from rasengan_xl.runs.records import Machine, RunSummary
from rasengan_xl.whole_file import remove_file, write_whole

PREPARE = "prepare"
"""What the first job is called, beside the names of the runs."""

ComparisonEvent = JobProgress | JobRetried | JobEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Where a comparison goes on, and with what."""

    folder: ComparisonFolder
    place: Place
    command: str
    """What repeats it."""


def run_comparison(
    settings: ComparisonSettings,
    folder: Path,
    *,
    place: Place | None = None,
    only: Collection[str] = (),
    command: str = "",
) -> Generator[ComparisonEvent]:
    """Train every arm with every seed, draw with each, and write `comparison.json`.

    What is finished in the folder is kept: a comparison that was stopped, or that gets another
    seed or arm, does only what is new.  A run that fails is recorded, and the others go on.
    Closing the iterator stops the workers.

    Args:
        settings: What to compare.
        folder: Where everything goes.
        place: Where the runs take place; this machine, if not told.
        only: Arms to train now; all, if none is named.
        command: What repeats the comparison.

    Raises:
        RasenganError: A mistake that would stop every arm; nothing has been written then.
    """
    settings = settle_arms(settings)
    first = next(iter(settings.arms.values()))
    course = Course(
        folder=ComparisonFolder(folder),
        place=place or ThisMachine(device=first.compute.device),
        command=command,
    )
    with claim_alone(folder):
        yield from _carry_out(settings, only, course)


def _carry_out(
    settings: ComparisonSettings, only: Collection[str], course: Course
) -> Generator[ComparisonEvent]:
    course.folder.begun_settings()  # refuses a folder that holds something else
    trials = list_trials(settings, course.folder, only)
    if not trials:
        plan_runs(settings, course.folder, only)  # refuses what was run with other settings
    yield from _prepare(settings, course)
    course.folder.keep_settings(settings)
    sweep = yield from _try_rates(trials, course)
    settled = settle_rates(settings, sweep)
    yield from _train(plan_runs(settled, course.folder, only), settled, sweep, course)
    _write_result(settled, sweep, course, running=True)
    failures = yield from _examine(settled, course)
    _write_result(settled, sweep, course, running=False, notes=failures)
    write_cards(settled, course.folder)


def _prepare(settings: ComparisonSettings, course: Course) -> Generator[ComparisonEvent]:
    """Find what would stop any arm, encode the dataset, and measure the device once."""
    file = course.folder.prepared_file
    known = read_if_sound(PreparedFacts, file)
    order = Prepare(
        root=course.folder.root,
        arms=settings.arms,
        matched=settings.design == "matched",
        known_probe=known.probe if known else None,
    )
    # Of a mistake of the user's nothing is kept; of a crash, what the libraries said.
    log = course.folder.log_file(PREPARE)
    for event in carry_out_jobs([Job(name=PREPARE, order=order, log=log)], course.place):
        if isinstance(event, JobEnded) and event.reason is not None:
            if event.by_user and not course.folder.is_begun:
                course.folder.remove_leftovers()
            where = "" if event.by_user else f" (see {log})"
            raise RasenganError(f"{event.reason}{where}")
        yield event
    found = read_record(PreparedFacts, file)
    refuse_changed_origin(course.folder, found)
    if known is not None and found.memory is None:  # nothing had to be encoded this time
        kept = found.model_copy(update={"memory": known.memory})
        write_whole(file, kept.model_dump_json(indent=2))


def _try_rates(trials: Sequence[Trial], course: Course) -> Generator[ComparisonEvent, None, Sweep]:
    """Train every trial that is left to try, and choose each arm's learning rate."""
    waiting = {trial.name: trial for trial in trials if trial.is_waiting}
    jobs = [
        Job(
            name=trial.name,
            order=Train(
                root=course.folder.root,
                settings=trial.settings,
                run=course.folder.relative(trial.folder.path),
                resume=trial.folder.is_begun,
            ),
            log=course.folder.log_file(trial.name),
        )
        for trial in waiting.values()
    ]
    failures: dict[str, str] = {}
    for event in carry_out_jobs(jobs, course.place) if jobs else ():
        if isinstance(event, JobEnded) and event.reason is not None:
            failures[event.job] = event.reason
            keep_failure(waiting[event.job], event)
        yield event
    return choose_rates(list(trials), failures)


def _train(
    runs: Sequence[PlannedRun], settings: ComparisonSettings, sweep: Sweep, course: Course
) -> Generator[ComparisonEvent]:
    """Train every run that is not finished, and keep what became of each."""
    left = {run.name: run for run in runs if run.state != "finished"}
    for run in list(left.values()):
        tried = sweep.get(run.arm)
        if tried and not any(trial.chosen for trial in tried):
            reason = f"no learning rate could be chosen: {tried[0].reason}"
            _note_failure(course, run, JobEnded(job=run.name, attempts=1, seconds=0, reason=reason))
            del left[run.name]
    for run in left.values():
        remove_file(course.folder.failure_file(run.name))  # it is tried again
    jobs = [_training_job(run, course) for run in left.values()]
    for event in carry_out_jobs(jobs, course.place) if jobs else ():
        if isinstance(event, JobEnded):
            _note_end(course, left[event.job], event)
            _write_result(settings, sweep, course, running=True)
        yield event


def _training_job(run: PlannedRun, course: Course) -> Job:
    order = Train(
        root=course.folder.root,
        settings=run.settings,
        run=course.folder.relative(run.folder.path),
        resume=run.folder.is_begun,
    )
    return Job(name=run.name, order=order, log=course.folder.log_file(run.name))


def _note_end(course: Course, run: PlannedRun, end: JobEnded) -> None:
    if end.reason is not None or end.attempts > 1:
        _note_failure(course, run, end)
    else:
        remove_file(course.folder.failure_file(run.name))
    if end.reason is None and end.attempts == 1 and run.state == "new":
        summary = read_record(RunSummary, run.folder.summary_file)
        cost = KnownCost(
            seconds=end.seconds,
            peak_memory_gib=summary.peak_memory_gib,
            memory_kind=summary.memory_kind,
            device_name=read_record(Machine, run.folder.machine_file).device_name,
            seconds_per_step=summary.seconds_per_step and summary.seconds_per_step.median,
        )
        remember_cost(run.settings, cost)


def _note_failure(course: Course, run: PlannedRun, end: JobEnded) -> None:
    facts = FailureFacts(reason=end.reason, attempts=end.attempts)
    write_whole(course.folder.failure_file(run.name), facts.model_dump_json(indent=2))


def _examine(
    settings: ComparisonSettings, course: Course
) -> Generator[ComparisonEvent, None, list[str]]:
    """Have every finished run draw, and its pictures judged.

    Returns:
        Why some could not, one line each: what others drew and measured is kept.
    """
    jobs = list_examinations(settings, course.folder, course.place.slots)
    failures: list[str] = []
    for event in carry_out_jobs(jobs, course.place) if jobs else ():
        if isinstance(event, JobEnded) and event.reason is not None:
            failures.append(
                f"pictures are missing: {event.reason}; the same command tries them again"
            )
        yield event
    return failures


def _write_result(
    settings: ComparisonSettings,
    sweep: Sweep,
    course: Course,
    *,
    running: bool,
    notes: Sequence[str] = (),
) -> None:
    result = collect_comparison(settings, sweep, course.folder, running=running)
    described = {
        "command": course.command,
        "jobs": course.place.slots,
        "notes": [*notes, *result.notes],
    }
    result.model_copy(update=described).write(course.folder.root / RESULT_FILE)
