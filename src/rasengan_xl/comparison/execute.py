"""Run a comparison: every arm in a process of its own, then the pictures, then the result."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rasengan_xl.comparison.orders import Draw, Order, Prepare, Train
from rasengan_xl.comparison.process import WorkerFailedError, run_worker
from rasengan_xl.comparison.result import RESULT_FILE, ArmResult, Comparison, picture_rows
from rasengan_xl.config.comparison import differences
from rasengan_xl.config.settings import ComparisonSettings, RunSettings
from rasengan_xl.errors import RasenganError
from rasengan_xl.runs.folder import RunFolder, read_record, refuse_used_folder, write_whole
from rasengan_xl.runs.records import DatasetFacts, Machine, RunSummary, StageProgress, StepRecord


@dataclass(frozen=True, slots=True)
class ComparisonProgress:
    """What one part of a comparison is doing."""

    part: str
    """An arm's name, `prepare` or `draw`."""
    record: StageProgress | StepRecord


@dataclass(frozen=True, slots=True)
class ArmEnded:
    """An arm came to its end."""

    arm: str
    reason: str | None
    """Why it failed; None when it did not."""


def run_comparison(
    settings: ComparisonSettings, folder: Path
) -> Generator[ComparisonProgress | ArmEnded]:
    """Train every arm, draw with each, and write `comparison.json` into the folder.

    An arm that fails is recorded as failed, and the others go on.  Closing the iterator stops the
    worker.

    Raises:
        RasenganError: A mistake that would stop every arm; nothing has been written then.
    """
    refuse_used_folder(folder, "choose another --out")
    try:
        yield from _follow("prepare", Prepare(arms=settings.arms))
    except WorkerFailedError as failure:
        raise RasenganError(str(failure)) from failure
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "settings.json", settings.model_dump_json(indent=2))

    failures: dict[str, str] = {}
    for name, arm in settings.arms.items():
        order = Train(settings=arm, folder=_run(folder, name).path)
        try:
            yield from _follow(name, order, folder / "logs" / f"{name}.log")
        except WorkerFailedError as failure:
            failures[name] = str(failure)
        yield ArmEnded(name, failures.get(name))

    finished = [name for name in settings.arms if name not in failures]
    result = _collect(settings, failures, folder)
    # The numbers are kept before anything is drawn, which may fail.
    result.model_copy(update={"pictures": []}).write(folder / RESULT_FILE)
    if finished:
        yield from _draw(settings, finished, folder)
        result.write(folder / RESULT_FILE)


def _draw(
    settings: ComparisonSettings, finished: list[str], folder: Path
) -> Generator[ComparisonProgress]:
    order = Draw(
        settings=settings.arms[finished[0]],
        pictures=settings.pictures,
        adapters={name: _run(folder, name).adapter_file for name in finished},
        folder=folder / "pictures",
    )
    try:
        yield from _follow("draw", order, folder / "logs" / "draw.log")
    except WorkerFailedError as failure:
        raise RasenganError(
            f"{folder}: the pictures could not be drawn: {failure}; "
            "`rasengan report` shows the numbers"
        ) from failure


def _follow(part: str, order: Order, log: Path | None = None) -> Generator[ComparisonProgress]:
    with closing(run_worker(order, log)) as records:
        for record in records:
            yield ComparisonProgress(part, record)


def _collect(settings: ComparisonSettings, failures: dict[str, str], folder: Path) -> Comparison:
    """Put together what the arms left in their folders."""
    finished = [name for name in settings.arms if name not in failures]
    first = next(iter(settings.arms.values()))
    differing = differences(settings.arms)
    origin = next((run for name in settings.arms if (run := _run(folder, name)).has_origin), None)
    pictures = picture_rows(settings.pictures, finished, folder / "pictures", folder)
    return Comparison(
        name=settings.name,
        base_model=first.base_model,
        dataset=read_record(DatasetFacts, origin.dataset_file) if origin else None,
        machine=read_record(Machine, origin.machine_file) if origin else None,
        picture_settings=settings.pictures.model_dump(mode="json"),
        arms=[
            _describe_arm(name, arm, differing[name], failures.get(name), folder)
            for name, arm in settings.arms.items()
        ],
        pictures=pictures if finished else [],
    )


def _describe_arm(
    name: str, settings: RunSettings, differs: dict[str, Any], failure: str | None, folder: Path
) -> ArmResult:
    run = _run(folder, name)
    arm = ArmResult(
        name=name,
        status="failed" if failure else "finished",
        reason=failure,
        seed=settings.seed,
        settings=settings.model_dump(mode="json"),
        differs=differs,
        run=str(run.path.relative_to(folder)),
    )
    if failure:
        return arm
    summary = read_record(RunSummary, run.summary_file)
    return arm.model_copy(
        update={
            "trainable_parameters": summary.trainable_parameters,
            "total_parameters": summary.total_parameters,
            "adapter_file": str(run.adapter_file.relative_to(folder)),
            "adapter_bytes": summary.adapter_bytes,
            "peak_memory_gib": summary.peak_memory_gib,
            "peak_memory_reserved_gib": summary.peak_memory_reserved_gib,
            "memory_kind": summary.memory_kind,
            "seconds_per_step": summary.seconds_per_step,
            "loader_idle_share": summary.loader_idle_share,
            "training_loss": summary.training_loss,
            "training_loss_steps": summary.training_loss_steps,
            "skipped_steps": summary.skipped_steps,
            "held_out_loss": summary.held_out_loss,
            "best": summary.best,
            "trace_hash": summary.trace_hash,
        }
    )


def _run(folder: Path, arm: str) -> RunFolder:
    return RunFolder(folder / "arms" / arm)
