"""The course of a run from step to step: taken, saved, measured, stopped."""

from collections.abc import Iterator
from dataclasses import replace

from rasengan_xl.errors import DivergedError, SharedError, UnwritableError
from rasengan_xl.evaluation.held_out import measure_losses, picture_means
from rasengan_xl.planning.changes import TRAIN
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import StageProgress, StepRecord
from rasengan_xl.training.assembly import Run
from rasengan_xl.training.checkpoints import is_measured, keep_best, save_checkpoint
from rasengan_xl.training.divergence import DivergedStepError
from rasengan_xl.training.loop import train_steps
from rasengan_xl.training.summary import summarise_run

Progress = StageProgress | StepRecord


def take_all_steps(run: Run) -> Iterator[Progress]:
    """Take every step that is left; the first process of a job also writes them down.

    Closing the iterator between two steps leaves a checkpoint.

    Raises:
        DivergedError: A loss or gradient is not finite.
        UnwritableError: A checkpoint cannot be saved; those before it are as they were.
    """
    return _train_and_save(run) if run.task.ranks.is_first else _train_along(run)


def _train_and_save(run: Run) -> Iterator[Progress]:
    """Take every remaining step; save now and then, at the end, and when the caller stops."""
    state, folder, keep = run.state, run.folder, run.settings.training.keep_checkpoints
    saved = state.steps_done
    try:
        yield from _measure_if_due(run)  # the run may have stopped just before
        yield _steps_so_far(run)
        for record in train_steps(state, run.task):
            folder.append(record)
            if run.is_due:
                save_checkpoint(state, folder, keep)
                saved = state.steps_done
            yield record
            yield from _tell(run)
            if run.is_due:
                yield from _measure_if_due(run)
                yield _steps_so_far(run)
    except DivergedStepError as error:
        raise DivergedError(f"{error}; {_keep_evidence(error, folder)}") from error
    except GeneratorExit:  # the caller closed the iterator, which it can only between two steps
        if saved < state.steps_done:
            save_checkpoint(state, folder, keep)
        if state.steps_done:
            folder.write_summary(summarise_run(state, folder, run.task.compute.device))
        raise


def _keep_evidence(error: DivergedStepError, folder: RunFolder) -> str:
    try:
        file = folder.write_evidence(error.evidence.facts, error.evidence.tensors)
    except UnwritableError as fault:
        return f"what was computed could not be kept ({fault})"
    return f"what was computed is kept in {file}"


def _train_along(run: Run) -> Iterator[Progress]:
    """Do what every process does but the first, which writes."""
    try:
        yield from _measure_if_due(run)
        for record in train_steps(run.state, run.task):
            yield record
            if run.is_due:
                yield from _measure_if_due(run)
    except DivergedError as error:
        raise SharedError(str(error)) from error


def _measure_if_due(run: Run) -> Iterator[StageProgress]:
    """Measure the held-out loss at a checkpoint, and keep the best adapter."""
    ranks, pictures = run.task.ranks, run.settings.evaluation.checkpoint_pictures
    if not run.is_due or not pictures:
        return
    step = run.state.steps_done
    if ranks.first(ranks.is_first and is_measured(run.folder, step)):
        return
    with run.state.given.in_place():
        losses = yield from measure_losses(
            run.state.adapter.unet, run.table, pictures, run.task.compute, ranks
        )
    if ranks.is_first:
        keep_best(run.state, picture_means(losses), run.table.timesteps, run.folder)


def _tell(run: Run) -> Iterator[StageProgress]:
    """Yield what has to be told since the last step."""
    notes, run.state.notes[:] = run.state.notes[:], []
    for note in notes:
        yield replace(_steps_so_far(run), note=note)


def _steps_so_far(run: Run) -> StageProgress:
    return StageProgress(stage=TRAIN, done=run.state.steps_done, total=run.task.settings.steps)
