"""The training loop, top to bottom in the order things happen."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from rasengan_xl.config.training_settings import TrainingSettings
from rasengan_xl.dataset.stream import StepPart, TrainingStream
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
from rasengan_xl.sdxl.objective import Objective, denoising_losses
from rasengan_xl.training.divergence import (
    refuse_infinite_gradient,
    refuse_infinite_loss,
    refuse_many_skips,
)
from rasengan_xl.training.optimizer import learning_rate_at, set_learning_rate
from rasengan_xl.training.state import TrainingState

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
    steps = range(state.steps_done + 1, task.settings.steps + 1)
    with closing(prefetch(partial(_read, task), steps, ahead=STEPS_AHEAD)) as parts:
        for step in steps:
            meter.start()
            stopwatch.start()
            part = next(parts)
            idle_seconds = stopwatch.lap()
            loss, gradient_norm = take_step(state, task, part)
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


def take_step(state: TrainingState, task: Task, part: StepPart) -> tuple[float, float | None]:
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
    parameters = list(state.adapter.trained.values())
    losses = add_up_gradients(state, task, part)
    loss = _share_gradients(parameters, losses.sum(), ranks) / task.stream.draws.per_step
    refuse_infinite_loss(loss, losses, part, task.stream, ranks)

    state.scaler.unscale_(state.optimizer)
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    gradient_norm = norm.item()
    is_finite = gradient_norm < float("inf")
    if is_finite:
        clip_grads_with_norm_(parameters, task.settings.max_gradient_norm, norm)
    else:
        if not state.scaler.is_enabled():
            refuse_infinite_gradient(gradient_norm, state.adapter, part, task.stream, ranks)
        state.skipped_steps.append(step)
        refuse_many_skips(state.skipped_steps, step, task.settings.most_skipped_share)

    set_learning_rate(state.optimizer, learning_rate_at(step, task.settings))
    state.scaler.step(state.optimizer)  # does nothing if a gradient overflowed
    state.scaler.update()
    state.adapter.clear_gradients()
    if is_finite:
        state.adapter.settle()
        state.given.update()
    shown = [[picture.slot, picture.trace] for batch in part.shown for picture in batch]
    everywhere = sorted(pair for pairs in ranks.gather(shown) for pair in pairs)
    state.trace.update(step, [trace for _, trace in everywhere])
    state.steps_done = step
    return loss, gradient_norm if is_finite else None


def add_up_gradients(state: TrainingState, task: Task, part: StepPart) -> Tensor:
    """Back-propagate this process's share of a step's mean loss, micro-batch by micro-batch.

    Returns:
        The loss of each of its pictures, float32[picture], on the device.
    """
    losses: list[Tensor] = []
    for batch in part.batches:
        with state.adapter.computing(task.compute):
            on_device = batch.to(task.compute.device)
            each = denoising_losses(state.adapter.unet, on_device, task.objective)
        state.scaler.scale(each.sum() / task.stream.draws.per_step).backward()
        state.adapter.collect()
        losses.append(each.detach())
    return torch.cat(losses)


def _share_gradients(parameters: Sequence[Parameter], loss: Tensor, ranks: Ranks) -> float:
    """Add up gradients and losses over all processes in one flat sum; return that of losses."""
    if ranks.count > 1:
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([loss.view(1), *(gradient.view(-1) for gradient in gradients)])
        ranks.add_up(flat)
        sizes = [1, *(gradient.numel() for gradient in gradients)]
        sums: Sequence[Tensor] = torch.split(flat, sizes)
        for gradient, summed in zip(gradients, sums[1:], strict=True):
            gradient.copy_(summed.view_as(gradient))
        loss = sums[0]
    return loss.item()


def _read(task: Task, step: int) -> StepPart:
    part = task.stream.part(step, task.ranks)
    return part.pinned() if task.compute.device.type == "cuda" else part
