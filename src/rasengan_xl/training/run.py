"""One training run, from settings to a saved adapter."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch

from rasengan_xl.adapters.attach import Adapter, attach_adapter
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.encoded import EncodedDataset, encode_dataset
from rasengan_xl.dataset.stream import build_stream
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.errors import DivergedError, RasenganError, SharedError, UnwritableError
from rasengan_xl.evaluation.held_out import (
    HeldOutTable,
    build_table,
    measure_held_out_loss,
    measure_losses,
)
from rasengan_xl.ranks import ALONE, Ranks
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.provenance import describe_machine
from rasengan_xl.runs.records import StageProgress, StepRecord
from rasengan_xl.runs.resuming import global_batch
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import Compute, choose_compute
from rasengan_xl.sdxl.model_folder import ModelFolder, find_model
from rasengan_xl.sdxl.noise_schedule import NoiseSchedule, load_noise_schedule
from rasengan_xl.sdxl.objective import build_objective
from rasengan_xl.tensor_file import digest_tensors
from rasengan_xl.training.checkpoints import (
    is_measured,
    keep_best,
    restore_checkpoint,
    save_checkpoint,
    share_state,
)
from rasengan_xl.training.divergence import DivergedStepError
from rasengan_xl.training.given_weights import GivenWeights
from rasengan_xl.training.loop import Task, train_steps
from rasengan_xl.training.memory_remedies import LOAD_UNET, TRAIN
from rasengan_xl.training.optimizer import build_optimizer, check_optimizer
from rasengan_xl.training.out_of_memory import MemoryWatch
from rasengan_xl.training.state import TrainingState
from rasengan_xl.training.summary import summarise_run

Progress = StageProgress | StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Footing:
    """Where and with whom a run takes place, and what it starts from."""

    compute: Compute
    model: ModelFolder
    schedule: NoiseSchedule
    ranks: Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run in progress: what was asked for, what is learnt, and where it is written down."""

    settings: RunSettings
    folder: RunFolder
    """Only the first process of a job looks into it."""
    state: TrainingState
    task: Task
    dataset: EncodedDataset
    table: HeldOutTable

    @property
    def is_due(self) -> bool:
        """Whether the step that was just taken ends in a checkpoint that is measured."""
        step, training = self.state.steps_done, self.settings.training
        return step == training.steps or (step > 0 and step % training.save_every == 0)


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
        footing = _find_footing(settings, ranks)
        watch.model, watch.compute = footing.model, footing.compute
        if ranks.is_first and resume:
            folder.check_resumable(settings, ranks.count)
        elif ranks.is_first:
            folder.check_unused()
    if ranks.first(resume and ranks.is_first and folder.is_finished):
        yield _already_finished(folder)
        return
    watch.can_resume = resume
    dataset = yield from encode_dataset(settings, footing.model, footing.compute, ranks)

    yield StageProgress(stage=LOAD_UNET, done=0, total=1)
    run = _assemble(settings, folder, footing, dataset)
    yield from _begin(run, footing.model, resume=resume)
    watch.can_resume = True
    yield StageProgress(stage=LOAD_UNET, done=1, total=1)

    yield from (_train_and_save(run) if ranks.is_first else _train_along(run))
    yield from _finish(run)


def _find_footing(settings: RunSettings, ranks: Ranks) -> Footing:
    compute = choose_compute(settings.compute)
    check_optimizer(settings.training, compute.device)
    model = find_model(settings.base_model, settings.base_revision)
    schedule = load_noise_schedule(model, zero_terminal_snr=settings.objective.zero_terminal_snr)
    return Footing(compute=compute, model=model, schedule=schedule, ranks=ranks)


def _assemble(
    settings: RunSettings, folder: RunFolder, footing: Footing, dataset: EncodedDataset
) -> Run:
    """Load the UNet and put everything together."""
    compute, schedule, ranks = footing.compute, footing.schedule, footing.ranks
    with ranks.together():
        unet = load_unet(footing.model, compute, settings.adapter.base_precision)
        if settings.training.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        adapter = attach_adapter(unet, settings.adapter, settings.seed)
    _refuse_disagreement(adapter, dataset, ranks)
    task = Task(
        stream=build_stream(dataset.train, settings, len(schedule.alpha_bars), ranks),
        objective=build_objective(schedule, settings.objective).to(compute.device),
        compute=compute,
        settings=settings.training,
        ranks=ranks,
    )
    return Run(
        settings=settings,
        folder=folder,
        state=_new_state(adapter, settings, compute, ranks),
        task=task,
        dataset=dataset,
        table=build_table(dataset.held_out, schedule, settings),
    )


def _new_state(
    adapter: Adapter, settings: RunSettings, compute: Compute, ranks: Ranks
) -> TrainingState:
    optimizer = build_optimizer(adapter.parameters, settings.training)
    return TrainingState(
        adapter=adapter,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(compute.device.type, enabled=compute.dtype is torch.float16),
        trace=TraceHash(),
        given=GivenWeights(adapter.parameters, optimizer, settings.training.ema_decay),
        global_batch=global_batch(settings, ranks.count),
        precision=str(compute.dtype).removeprefix("torch."),
        zero_terminal_snr=settings.objective.zero_terminal_snr is True,
    )


def _refuse_disagreement(adapter: Adapter, dataset: EncodedDataset, ranks: Ranks) -> None:
    """Refuse a job whose processes would not do the same."""
    weights = digest_tensors({name: p.detach() for name, p in adapter.parameters.items()})
    for what, value in (("pictures", dataset.facts.fingerprint), ("first weights", weights)):
        with ranks.together():
            if len(set(ranks.gather(value))) > 1:
                raise RasenganError(
                    f"the processes of this job have different {what}: give them all the same "
                    "files and the same versions of every package"
                )


def _begin(run: Run, model: ModelFolder, *, resume: bool) -> Iterator[StageProgress]:
    """Open the folder, and go back to where the run was if it is continued."""
    ranks, folder = run.task.ranks, run.folder
    notes: list[str] = []
    with ranks.together():
        base = model.facts()
        if ranks.is_first and resume:
            folder.check_origin(run.dataset.facts, base)
            notes = restore_checkpoint(run.state, folder)
            folder.keep_settings(run.settings)  # harmless ones may be other than before
        elif ranks.is_first:
            folder.start(run.settings)
        if ranks.is_first:
            machine = describe_machine(run.task.compute.device, ranks.count)
            folder.write_origin(machine, run.dataset.facts, base)
    share_state(run.state, folder, ranks)
    for note in notes:
        yield StageProgress(stage="go back", done=1, total=1, note=note)


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
            if run.is_due:
                yield from _measure_if_due(run)
                yield _steps_so_far(run)
    except DivergedStepError as error:
        file = folder.write_evidence(error.evidence.facts, error.evidence.tensors)
        raise DivergedError(f"{error}; what was computed is kept in {file}") from error
    except GeneratorExit:  # the caller closed the iterator, which it can only between two steps
        if saved < state.steps_done:
            save_checkpoint(state, folder, keep)
        if state.steps_done:
            folder.write_summary(summarise_run(state, folder, run.task.compute.device))
        raise


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
            run.state.adapter, run.table, pictures, run.task.compute, ranks
        )
    if ranks.is_first:
        keep_best(run.state, losses, run.table.timesteps, run.folder)


def _finish(run: Run) -> Iterator[StageProgress]:
    """Say what the run cost, and measure what it gave."""
    state, task, folder = run.state, run.task, run.folder
    if task.ranks.is_first:  # stands if the measurement below is broken off
        folder.write_summary(summarise_run(state, folder, task.compute.device))
    with task.ranks.together(), state.given.in_place():
        held_out = yield from measure_held_out_loss(
            state.adapter, run.table, run.settings.evaluation.pictures, task.compute, task.ranks
        )
    if task.ranks.is_first:
        cost = summarise_run(state, folder, task.compute.device)
        folder.write_summary(
            cost.model_copy(update={"status": "finished", "held_out_loss": held_out})
        )


def _steps_so_far(run: Run) -> StageProgress:
    return StageProgress(stage=TRAIN, done=run.state.steps_done, total=run.task.settings.steps)


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
