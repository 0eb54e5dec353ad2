"""One training run, from settings to a saved adapter."""

from collections.abc import Iterator

import torch

from rasengan_xl.adapters.attach import Adapter, attach_adapter
from rasengan_xl.adapters.files import save_adapter
from rasengan_xl.adapters.inventory import count_parameters, count_trainable_parameters
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.encoded import encode_dataset
from rasengan_xl.dataset.stream import TrainingStream
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.evaluation.held_out import measure_held_out_loss
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.provenance import describe_machine
from rasengan_xl.runs.records import RunSummary, StageProgress, StepRecord
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import Compute, choose_compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.noise_schedule import load_noise_schedule
from rasengan_xl.sdxl.objective import build_objective
from rasengan_xl.training.cost import memory_kind, peak_memory_reserved_gib, summarise_seconds
from rasengan_xl.training.loop import Task, train_steps
from rasengan_xl.training.optimizer import build_optimizer
from rasengan_xl.training.state import TrainingState

Progress = StageProgress | StepRecord


def run_training(
    settings: RunSettings, folder: RunFolder, *, resume: bool = False
) -> Iterator[Progress]:
    """Train one adapter and leave its whole story in the folder, yielding progress as it goes.

    Closing the iterator between two steps leaves a checkpoint and a usable adapter.

    Args:
        settings: Everything the run depends on.
        folder: Where it is written down.
        resume: Continue the run that the folder holds.

    Raises:
        RasenganError: Something the user can mend; nothing is written before inputs are checked.
    """
    compute = choose_compute(settings.compute)
    model = find_model(settings.base_model, settings.base_revision)
    schedule = load_noise_schedule(model, zero_terminal_snr=settings.objective.zero_terminal_snr)
    if resume:
        folder.check_resumable(settings)
    else:
        folder.check_unused()
    dataset = yield from encode_dataset(settings, model, compute)

    yield StageProgress(stage="load the UNet", done=0, total=1)
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
        objective=build_objective(schedule, settings.objective).to(compute.device),
        compute=compute,
        settings=settings.training,
    )
    state = _new_state(adapter, settings, compute)
    if resume:
        _restore(state, folder)
    else:
        folder.start(settings)
    if resume:
        folder.check_dataset(dataset.facts)
    folder.write_origin(describe_machine(compute.device), dataset.facts)
    yield StageProgress(stage="load the UNet", done=1, total=1)

    yield from _train_and_save(state, task, folder)
    cost = _summarise(state, folder, compute.device)
    folder.write_summary(cost)  # stands if the measurement below is broken off
    held_out = yield from measure_held_out_loss(
        adapter, dataset.held_out, schedule, compute, settings.evaluation
    )
    folder.write_summary(cost.model_copy(update={"status": "finished", "held_out_loss": held_out}))


def _new_state(adapter: Adapter, settings: RunSettings, compute: Compute) -> TrainingState:
    return TrainingState(
        adapter=adapter,
        optimizer=build_optimizer(adapter.parameters, settings.training),
        scaler=torch.amp.GradScaler(compute.device.type, enabled=compute.dtype is torch.float16),
        trace=TraceHash(),
    )


def _restore(state: TrainingState, folder: RunFolder) -> None:
    """Go back to the last checkpoint, or to the start; later lines of the log are dropped."""
    if folder.checkpoint_file.exists():
        state.restore(folder.checkpoint_file)
    folder.keep_records(r for r in folder.records() if r.step <= state.steps_done)


def _train_and_save(state: TrainingState, task: Task, folder: RunFolder) -> Iterator[StepRecord]:
    """Take every remaining step; save now and then, at the end, and when the caller stops."""
    try:
        for record in train_steps(state, task):
            folder.append(record)
            if record.step % task.settings.save_every == 0:
                _save(state, folder)
            yield record
    except GeneratorExit:  # the caller closed the iterator, which it can only between two steps
        _save(state, folder)
        folder.write_summary(_summarise(state, folder, task.compute.device))
        raise
    _save(state, folder)


def _save(state: TrainingState, folder: RunFolder) -> None:
    state.save(folder.checkpoint_file)
    save_adapter(state.adapter, folder.adapter_file)


def _summarise(state: TrainingState, folder: RunFolder, device: torch.device) -> RunSummary:
    """Say what the steps so far cost; `interrupted` until the held-out loss is known."""
    records = folder.records()
    last = records[-max(1, len(records) // 10) :]
    return RunSummary(
        status="interrupted",
        steps=len(records),
        trainable_parameters=count_trainable_parameters(state.adapter.unet),
        total_parameters=count_parameters(state.adapter.unet),
        adapter_file=folder.adapter_file.name,
        adapter_bytes=folder.adapter_file.stat().st_size,
        peak_memory_gib=max(record.peak_memory_gib for record in records),
        peak_memory_reserved_gib=peak_memory_reserved_gib(device),
        memory_kind=memory_kind(device),
        seconds_per_step=summarise_seconds(records),
        training_loss=sum(record.loss for record in last) / len(last),
        training_loss_steps=len(last),
        skipped_steps=sum(record.skipped for record in records),
        held_out_loss=None,
        trace_hash=state.trace.state,
    )
