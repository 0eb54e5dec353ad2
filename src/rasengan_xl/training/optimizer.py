"""The optimizer, and the one place that says what the learning rate is at a step."""

import math
from collections.abc import Iterable
from typing import Any

import bitsandbytes
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer

from rasengan_xl.config.training_settings import TrainingSettings


def build_optimizer(parameters: Iterable[Parameter], settings: TrainingSettings) -> Optimizer:
    """Build the optimizer that the settings name."""
    chosen = list(parameters)
    if settings.optimizer == "adamw8bit":
        eight_bit: Any = bitsandbytes.optim  # carries no types
        return eight_bit.AdamW8bit(
            chosen, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
    return AdamW(
        chosen,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=all(p.is_cuda for p in chosen) or None,
    )


def learning_rate_at(step: int, settings: TrainingSettings) -> float:
    """Return the learning rate of an optimizer step.

    Warm-up climbs linearly to the peak; the course after it would reach zero (cosine, linear)
    one step after the last, so that no step is spent at zero.

    Args:
        step: Optimizer step, from 1 to `settings.steps`.
        settings: Peak, warm-up, course and length.
    """
    if step <= settings.warmup_steps:
        return settings.learning_rate * step / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    course = (step - 1 - settings.warmup_steps) / (settings.steps - settings.warmup_steps)
    remaining = (
        1 - course if settings.schedule == "linear" else (1 + math.cos(math.pi * course)) / 2
    )
    return settings.learning_rate * remaining
