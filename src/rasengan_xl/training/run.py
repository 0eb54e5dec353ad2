"""One training run, from settings to a saved adapter."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial

from rasengan_xl.adapters.start_file import settle_start
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.encoded import encode_dataset
from rasengan_xl.dataset.key_values import count_captions, encode_key_values
from rasengan_xl.errors import UnwritableError
from rasengan_xl.evaluation.base_losses import name_base_losses, recall_or_measure
from rasengan_xl.evaluation.held_out import measure_losses, summarise_losses, tabulate_losses
from rasengan_xl.planning.changes import LOAD_UNET
from rasengan_xl.planning.engine_choice import settle_engine
from rasengan_xl.planning.known_costs import remember_steps
from rasengan_xl.ranks import ALONE, Ranks
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.provenance import describe_machine, name_device
from rasengan_xl.runs.records import StageProgress, TableLosses
from rasengan_xl.sdxl.components import load_unet_shape
from rasengan_xl.sdxl.model_folder import ModelFolder
from rasengan_xl.training.assembly import Run, assemble_run, find_footing
from rasengan_xl.training.checkpoints import restore_checkpoint, share_state
from rasengan_xl.training.course import Progress, take_all_steps
from rasengan_xl.training.given import measure_given
from rasengan_xl.training.out_of_memory import MemoryWatch
from rasengan_xl.training.summary import summarise_run
from rasengan_xl.training.verifying import refuse_failure, verify_run
from rasengan_xl.whole_file import remove_file


def run_training(
    settings: RunSettings, folder: RunFolder, *, resume: bool = False, ranks: Ranks = ALONE
) -> Iterator[Progress]:
    """Train one adapter and leave its whole story in the folder, yielding progress as it goes.

    Closing the iterator between two steps leaves a checkpoint and a usable adapter.

    Args:
        settings: Everything the run depends on.
        folder: Where it is written down.
        resume: Continue the run that the folder holds; one that is finished is left alone.
        ranks: The processes of this job; each calls this function.

    Raises:
        RasenganError: Something the user can mend; nothing is written before inputs are checked.
    """
    watch = MemoryWatch(settings=settings)
    work = _run(settings, folder, watch, ranks, resume=resume)
    with _telling_how_to_go_on(folder), watch.explaining(), closing(work):
        for record in work:
            watch.follow(record)
            yield record


def _run(
    settings: RunSettings, folder: RunFolder, watch: MemoryWatch, ranks: Ranks, *, resume: bool
) -> Generator[Progress]:
    with ranks.together():
        settings = settle_start(settings)
        footing = find_footing(settings, ranks)
        watch.model, watch.compute = footing.model, footing.compute
        if settings.engine.cache_text_kv and not settings.is_given:
            # What stands against it is told before anything is encoded.
            settle_engine(settings, load_unet_shape(footing.model), footing.compute)
        if ranks.is_first and resume:
            folder.check_resumable(settings, ranks.count)
        elif ranks.is_first:
            folder.check_unused()
    if ranks.first(resume and ranks.is_first and folder.is_finished):
        yield _already_finished(folder)
        return
    watch.can_resume = resume
    dataset = yield from encode_dataset(settings, footing.model, footing.compute, ranks)
    if settings.is_given:
        yield from measure_given(settings, folder, footing, dataset)
        return
    watch.captions = count_captions(dataset)
    if settings.engine.cache_text_kv:
        dataset = yield from encode_key_values(
            dataset, settings, footing.model, footing.compute, ranks
        )

    yield StageProgress(stage=LOAD_UNET, done=0, total=1)
    run = assemble_run(settings, folder, footing, dataset)
    watch.memory = run.state.adapter.options.memory
    yield from _begin(run, footing.model, resume=resume)
    watch.can_resume = True
    yield StageProgress(stage=LOAD_UNET, done=1, total=1)

    yield from take_all_steps(run)
    yield from _finish(run, footing.model)


def _begin(run: Run, model: ModelFolder, *, resume: bool) -> Iterator[StageProgress]:
    """Open the folder, and go back to where the run was if it is continued."""
    ranks, folder = run.task.ranks, run.folder
    notes: list[str] = []
    with ranks.together():
        base = model.facts()
        if ranks.is_first and resume:
            folder.check_origin(run.dataset.facts, base)
            remove_file(folder.verification_file)  # is of what was given out before
            notes = restore_checkpoint(run.state, folder)
            folder.keep_settings(run.settings)  # harmless ones may be other than before
        elif ranks.is_first:
            folder.start(run.settings)
        if ranks.is_first:
            machine = describe_machine(run.task.compute.device, ranks.count)
            folder.write_origin(machine, run.dataset.facts, base)
    share_state(run.state, folder, ranks)
    for note in run.notes if not run.state.steps_done else ():
        yield StageProgress(stage="start", done=1, total=1, note=note)
    for note in notes:
        yield StageProgress(stage="go back", done=1, total=1, note=note)


def _finish(run: Run, model: ModelFolder) -> Iterator[StageProgress]:
    """Say what the run cost, measure what it gave, and verify that."""
    state, task, folder = run.state, run.task, run.folder
    if task.ranks.is_first:  # stands if the measurement below is broken off
        summary = summarise_run(state, folder, task.compute.device)
        folder.write_summary(summary)
        if summary.seconds_per_step is not None:
            device_name = name_device(task.compute.device)
            remember_steps(run.settings, device_name, summary.seconds_per_step.median)
    with task.ranks.together(), state.given.in_place():
        losses = yield from _measure_losses(run, model)
    yield StageProgress(stage="verify", done=0, total=1)
    with task.ranks.together():
        if task.ranks.is_first:
            folder.write_table_losses(losses)
            found = verify_run(run, model)
            cost = summarise_run(state, folder, task.compute.device)
            # One that failed is not finished: a comparison neither uses nor keeps it.
            status = "finished" if found.passed else cost.status
            told = {"status": status, "held_out_loss": summarise_losses(losses)}
            folder.write_summary(cost.model_copy(update=told))
            refuse_failure(run, found)
    yield StageProgress(stage="verify", done=1, total=1)


def _measure_losses(run: Run, model: ModelFolder) -> Generator[StageProgress, None, TableLosses]:
    """Measure adapted and base model on the same table; the base once for all runs on it."""
    compute, ranks, adapter = run.task.compute, run.task.ranks, run.state.adapter
    most, precision = run.settings.evaluation.pictures, run.settings.adapter.base_precision
    measure = partial(measure_losses, adapter.unet, run.table, most, compute, ranks)
    adapted = yield from measure()
    key = name_base_losses(model, precision, run.table, most, compute)
    with adapter.disabled():
        base = yield from recall_or_measure(key, measure, ranks)
    return tabulate_losses(run.table, base, adapted)


def _already_finished(folder: RunFolder) -> StageProgress:
    note = f"{folder.path}: is already finished; nothing was done"
    return StageProgress(stage="already finished", done=1, total=1, note=note)


@contextmanager
def _telling_how_to_go_on(folder: RunFolder) -> Generator[None]:
    """Add to what could not be written what is safe, and how to continue."""
    try:
        yield
    except UnwritableError as error:
        step = next(iter(folder.checkpoints()), 0)
        safe = f" from step {step}, which is safe" if step else ""
        then = f"continue with --resume{safe}" if folder.is_begun else "run the command again"
        raise UnwritableError(f"{error}; then {then}") from error
