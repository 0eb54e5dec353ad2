"""The training loop, top to bottom in the order things happen."""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.nn import Parameter

from rasengan_xl.config.training_settings import TrainingSettings
from rasengan_xl.dataset.stream import StepPart, TrainingStream
from rasengan_xl.engine.step_graph import GpuRecorder
from rasengan_xl.prefetch import prefetch
from rasengan_xl.ranks import ALONE, Ranks
from rasengan_xl.runs.cost import (
    Stopwatch,
    peak_memory_gib,
    peak_memory_reserved_gib,
    reset_peak_memory,
)
from rasengan_xl.runs.energy import EnergyMeter
from rasengan_xl.runs.records import StepRecord
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.draws import keyed_seed
from rasengan_xl.sdxl.objective import Objective
from rasengan_xl.training.divergence import (
    refuse_infinite_gradient,
    refuse_infinite_loss,
    refuse_many_skips,
)
from rasengan_xl.training.optimizer import learning_rate_at, set_learning_rate
from rasengan_xl.training.state import TrainingState
from rasengan_xl.training.step_computer import EagerStep, RecordedStep, StepComputer
from rasengan_xl.training.step_end import StepEnd

STEPS_AHEAD = 3
"""Steps that are read and drawn while the present one is computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be learned, from what, where, and with whom."""

    stream: TrainingStream
    objective: Objective
    compute: Compute
    settings: TrainingSettings
    ranks: Ranks = ALONE


def train_steps(state: TrainingState, task: Task) -> Iterator[StepRecord]:
    """Train from where the state stands to the last step, yielding what each step measured.

    The caller decides what happens between two steps: log, save, stop.

    Raises:
        DivergedError: A loss or gradient is not a finite number.
    """
    device = task.compute.device
    stopwatch, meter = Stopwatch(device), EnergyMeter(device)
    reset_peak_memory(device)
    state.adapter.unet.train()
    computer = choose_computer(state, task)
    steps = range(state.steps_done + 1, task.settings.steps + 1)
    with closing(prefetch(partial(_read, task), steps, ahead=STEPS_AHEAD)) as parts:
        for step in steps:
            meter.start()
            stopwatch.start()
            part = next(parts)
            idle_seconds = stopwatch.lap()
            loss, gradient_norm = take_step(state, task, computer, part)
            yield StepRecord(
                step=step,
                loss=loss,
                gradient_norm=gradient_norm,
                learning_rate=learning_rate_at(step, task.settings),
                seconds=stopwatch.lap(),
                idle_seconds=idle_seconds,
                peak_memory_gib=peak_memory_gib(device),
                peak_memory_reserved_gib=peak_memory_reserved_gib(device),
                joules=meter.joules(),
                skipped=gradient_norm is None,
            )


def choose_computer(state: TrainingState, task: Task) -> StepComputer:
    """Return what computes steps as the adapter's options say."""
    eager = EagerStep(
        state=state,
        objective=task.objective,
        compute=task.compute,
        pictures_per_step=task.stream.draws.per_step,
        end=StepEnd(state, task.settings.max_gradient_norm),
    )
    if not state.adapter.options.cuda_graph:
        return eager
    return RecordedStep(eager, GpuRecorder, state.notes.append)


def take_step(
    state: TrainingState, task: Task, computer: StepComputer, part: StepPart
) -> tuple[float, float | None]:
    """Take one optimizer step.

    Returns:
        The mean loss of its pictures, and the gradient's norm before clipping; None if fp16
        overflowed, so that the step changed nothing.

    Raises:
        DivergedError: A loss or gradient is not a finite number.
    """
    step, ranks = part.step, task.ranks
    # Adapter dropout alone draws from global state; made a function of the step, too.
    torch.manual_seed(keyed_seed(task.stream.draws.seed, "dropout", step, ranks.rank))
    losses = torch.cat([computer.add_gradient(batch) for batch in part.batches])
    total = _share_gradients(list(state.adapter.trained.values()), losses.sum(), ranks)
    set_learning_rate(state.optimizer, learning_rate_at(step, task.settings))
    norm = computer.finish(total)
    # The one place where the host waits for the device.
    total_loss, gradient_norm = cast("list[float]", torch.stack((total, norm)).tolist())
    loss = total_loss / task.stream.draws.per_step
    refuse_infinite_loss(loss, losses, part, task.stream, ranks)
    is_finite = math.isfinite(gradient_norm)
    if not is_finite:
        if not state.scaler.is_enabled():
            refuse_infinite_gradient(gradient_norm, state.adapter, part, task.stream, ranks)
        state.skipped_steps.append(step)
        refuse_many_skips(state.skipped_steps, step, task.settings.most_skipped_share)
    state.adapter.clear_gradients()
    if is_finite:
        state.given.update()
    shown = [[picture.slot, picture.trace] for batch in part.shown for picture in batch]
    everywhere = sorted(pair for pairs in ranks.gather(shown) for pair in pairs)
    state.trace.update(step, [trace for _, trace in everywhere])
    state.steps_done = step
    return loss, gradient_norm if is_finite else None


def _share_gradients(parameters: Sequence[Parameter], loss: Tensor, ranks: Ranks) -> Tensor:
    """Add up gradients and losses over all processes in one flat sum; return that of losses."""
    if ranks.count == 1:
        return loss
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([loss.view(1), *(gradient.view(-1) for gradient in gradients)])
    ranks.add_up(flat)
    sizes = [1, *(gradient.numel() for gradient in gradients)]
    sums: Sequence[Tensor] = torch.split(flat, sizes)
    for gradient, summed in zip(gradients, sums[1:], strict=True):
        gradient.copy_(summed.view_as(gradient))
    return sums[0].view(())


def _read(task: Task, step: int) -> StepPart:
    part = task.stream.part(step, task.ranks)
    return part.pinned() if task.compute.device.type == "cuda" else part
