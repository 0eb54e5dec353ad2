"""The training loop, top to bottom in the order things happen."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn.utils import clip_grad_norm_

from rasengan_xl.config.training_settings import TrainingSettings
from rasengan_xl.dataset.stream import TrainingStream
from rasengan_xl.errors import DivergedError
from rasengan_xl.runs.records import StepRecord
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.draws import keyed_seed
from rasengan_xl.sdxl.objective import Objective, denoising_losses
from rasengan_xl.training.cost import Stopwatch, peak_memory_gib, reset_peak_memory
from rasengan_xl.training.optimizer import learning_rate_at, set_learning_rate
from rasengan_xl.training.state import TrainingState

MOST_SKIPS_IN_A_ROW = 25
"""fp16 may overflow while the loss scale settles; more than this is divergence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be learned, from what, and where."""

    stream: TrainingStream
    objective: Objective
    compute: Compute
    settings: TrainingSettings


def train_steps(state: TrainingState, task: Task) -> Iterator[StepRecord]:
    """Train from where the state stands to the last step, yielding what each step measured.

    The caller decides what happens between two steps: log, save, stop.

    Raises:
        DivergedError: A loss or gradient is not a finite number.
    """
    device = task.compute.device
    stopwatch = Stopwatch(device)
    reset_peak_memory(device)
    parameters = list(state.adapter.parameters.values())
    state.adapter.unet.train()
    skips_in_a_row = 0

    for step in range(state.steps_done + 1, task.settings.steps + 1):
        stopwatch.start()
        # Adapter dropout alone draws from global state; made a function of the step, too.
        torch.manual_seed(keyed_seed(task.stream.seed, "dropout", step))
        loss = add_up_gradients(state, task, step)
        state.scaler.unscale_(state.optimizer)
        gradient_norm = clip_grad_norm_(parameters, task.settings.max_gradient_norm).item()
        is_finite = gradient_norm < float("inf")
        if not is_finite and not state.scaler.is_enabled():
            raise DivergedError(_explain(step, "the gradient", gradient_norm))
        skips_in_a_row = 0 if is_finite else skips_in_a_row + 1
        if skips_in_a_row > MOST_SKIPS_IN_A_ROW:
            raise DivergedError(_explain(step, "the fp16 gradient of many steps", gradient_norm))

        learning_rate = learning_rate_at(step, task.settings)
        set_learning_rate(state.optimizer, learning_rate)
        state.scaler.step(state.optimizer)  # does nothing if a gradient overflowed
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        state.steps_done = step
        yield StepRecord(
            step=step,
            loss=loss,
            gradient_norm=gradient_norm if is_finite else None,
            learning_rate=learning_rate,
            seconds=stopwatch.lap(),
            peak_memory_gib=peak_memory_gib(device),
            skipped=not is_finite,
        )


def add_up_gradients(state: TrainingState, task: Task, step: int) -> float:
    """Back-propagate the mean loss of a step's pictures, micro-batch by micro-batch.

    Returns:
        That mean.

    Raises:
        DivergedError: The loss is not finite.
    """
    size = task.settings.batch_size * task.settings.accumulation
    total = torch.zeros((), device=task.compute.device)
    for batch in task.stream.micro_batches(step, state.trace):
        with task.compute.autocast():
            on_device = batch.to(task.compute.device)
            losses = denoising_losses(state.adapter.unet, on_device, task.objective)
        loss = losses.sum() / size
        state.scaler.scale(loss).backward()
        total += loss.detach()
    mean = total.item()
    if not abs(mean) < float("inf"):
        raise DivergedError(_explain(step, "the loss", mean))
    return mean


def _explain(step: int, what: str, value: float) -> str:
    return (
        f"step {step}: {what} is {value}; lower training.learning_rate, or use "
        "compute.precision = 'bf16' or 'fp32'"
    )
