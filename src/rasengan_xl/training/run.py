"""One training run, from settings to a saved adapter."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch

from rasengan_xl.adapters.attach import Adapter, attach_adapter
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.encoded import EncodedDataset, encode_dataset
from rasengan_xl.dataset.stream import TrainingStream
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.errors import UnwritableError
from rasengan_xl.evaluation.held_out import measure_held_out_loss
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.provenance import describe_machine
from rasengan_xl.runs.records import StageProgress, StepRecord
from rasengan_xl.runs.resuming import global_batch
from rasengan_xl.sdxl.components import load_noise_schedule, load_unet
from rasengan_xl.sdxl.compute import Compute, choose_compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.training.checkpoints import keep_best, restore_checkpoint, save_checkpoint
from rasengan_xl.training.loop import Task, train_steps
from rasengan_xl.training.memory_remedies import LOAD_UNET, TRAIN
from rasengan_xl.training.optimizer import build_optimizer
from rasengan_xl.training.out_of_memory import MemoryWatch
from rasengan_xl.training.state import TrainingState
from rasengan_xl.training.summary import summarise_run

Progress = StageProgress | StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run in progress: what was asked for, what is learnt, and where it is written down."""

    settings: RunSettings
    folder: RunFolder
    state: TrainingState
    task: Task
    dataset: EncodedDataset

    @property
    def is_due(self) -> bool:
        """Whether the step that was just taken ends in a checkpoint that is measured."""
        step, training = self.state.steps_done, self.settings.training
        return step == training.steps or (step > 0 and step % training.save_every == 0)


def run_training(
    settings: RunSettings, folder: RunFolder, *, resume: bool = False
) -> Iterator[Progress]:
    """Train one adapter and leave its whole story in the folder, yielding progress as it goes.

    Closing the iterator between two steps leaves a checkpoint and a usable adapter.

    Args:
        settings: Everything the run depends on.
        folder: Where it is written down.
        resume: Continue the run that the folder holds; one that is finished is left alone.

    Raises:
        RasenganError: Something the user can mend; nothing is written before inputs are checked.
    """
    watch = MemoryWatch(settings=settings)
    work = _run(settings, folder, watch, resume=resume)
    with _telling_how_to_go_on(folder), watch.explaining(), closing(work):
        for record in work:
            watch.follow(record)
            yield record


def _run(
    settings: RunSettings, folder: RunFolder, watch: MemoryWatch, *, resume: bool
) -> Generator[Progress]:
    compute = choose_compute(settings.compute)
    model = find_model(settings.base_model, settings.base_revision)
    schedule = load_noise_schedule(model)
    watch.model, watch.compute = model, compute
    if resume:
        folder.check_resumable(settings)
        if folder.is_finished:
            yield _already_finished(folder)
            return
        watch.can_resume = True
    else:
        folder.check_unused()
    dataset = yield from encode_dataset(settings, model, compute)

    yield StageProgress(stage=LOAD_UNET, done=0, total=1)
    unet = load_unet(model, compute, settings.adapter.base_precision)
    if settings.training.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    adapter = attach_adapter(unet, settings.adapter, settings.seed)
    task = Task(
        stream=TrainingStream(
            pictures=dataset.train,
            settings=settings.training,
            seed=settings.seed,
            timesteps=len(schedule.alpha_bars),
        ),
        schedule=schedule,
        compute=compute,
        settings=settings.training,
    )
    run = Run(
        settings=settings,
        folder=folder,
        state=_new_state(adapter, settings, compute),
        task=task,
        dataset=dataset,
    )
    if resume:
        yield from _go_back(run)
    else:
        folder.start(settings)
    folder.write_origin(describe_machine(compute.device), dataset.facts)
    watch.can_resume = True
    yield StageProgress(stage=LOAD_UNET, done=1, total=1)

    yield from _train_and_save(run)
    cost = summarise_run(run.state, folder, compute.device)
    folder.write_summary(cost)  # stands if the measurement below is broken off
    held_out = yield from measure_held_out_loss(
        adapter, dataset.held_out, schedule, compute, settings.evaluation
    )
    folder.write_summary(cost.model_copy(update={"status": "finished", "held_out_loss": held_out}))


def _new_state(adapter: Adapter, settings: RunSettings, compute: Compute) -> TrainingState:
    return TrainingState(
        adapter=adapter,
        optimizer=build_optimizer(adapter.parameters.values(), settings.training),
        scaler=torch.amp.GradScaler(compute.device.type, enabled=compute.dtype is torch.float16),
        trace=TraceHash(),
        global_batch=global_batch(settings, processes=1),
        precision=str(compute.dtype).removeprefix("torch."),
    )


def _go_back(run: Run) -> Iterator[StageProgress]:
    """Take up a run where it stopped, and say what is not as it was left."""
    run.folder.check_dataset(run.dataset.facts)
    notes = restore_checkpoint(run.state, run.folder)
    run.folder.keep_settings(run.settings)  # harmless ones may be other than before
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
    except GeneratorExit:  # the caller closed the iterator, which it can only between two steps
        if saved < state.steps_done:
            save_checkpoint(state, folder, keep)
        if state.steps_done:
            folder.write_summary(summarise_run(state, folder, run.task.compute.device))
        raise


def _measure_if_due(run: Run) -> Iterator[StageProgress]:
    if run.is_due:
        evaluation, held_out = run.settings.evaluation, run.dataset.held_out
        yield from keep_best(run.state, run.task, held_out, evaluation, run.folder)


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
