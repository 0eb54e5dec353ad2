"""The optimizer, and the one place that says what the learning rate is at a step."""

import contextlib
import importlib.util
import io
import math
from collections.abc import Mapping
from typing import Any

import bitsandbytes
import torch
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer

from rasengan_xl.config.training_settings import TrainingSettings
from rasengan_xl.errors import DeviceError

Number = bool | int | float

_LIBRARIES = {"prodigy": "prodigyopt", "schedule_free_adamw": "schedulefree"}
"""What the extra `optimizers` installs."""


def check_optimizer(settings: TrainingSettings, device: torch.device) -> None:
    """Refuse an optimizer that this machine cannot run, before anything is loaded.

    Raises:
        DeviceError: Its library is not installed, or it needs a GPU.
    """
    name = settings.optimizer
    library = _LIBRARIES.get(name)
    if library and importlib.util.find_spec(library) is None:
        raise DeviceError(
            f"training.optimizer = {name!r}: {library} is not installed; "
            "pip install 'rasengan-xl[optimizers]'"
        )
    if name == "paged_adamw8bit" and device.type != "cuda":
        raise DeviceError(
            f"training.optimizer = {name!r} pages moments out of a GPU, and there is none; "
            "use 'adamw8bit'"
        )


def build_optimizer(parameters: Mapping[str, Parameter], settings: TrainingSettings) -> Optimizer:
    """Build the optimizer that the settings name, over one group of parameters or two.

    Each group holds its `lr_ratio`, by which `set_learning_rate` multiplies.

    Args:
        parameters: What is trained, by name.
        settings: Which optimizer, and how fast.

    Raises:
        DeviceError: As `check_optimizer` does.
    """
    device = next(iter(parameters.values())).device
    check_optimizer(settings, device)
    groups = _group(parameters, settings)
    decay = settings.weight_decay
    eight_bit: Any = bitsandbytes.optim  # carries no types
    match settings.optimizer:
        case "adamw":
            return AdamW(groups, weight_decay=decay, fused=device.type == "cuda" or None)
        case "adamw8bit":
            return eight_bit.AdamW8bit(groups, weight_decay=decay)
        case "paged_adamw8bit":
            return eight_bit.PagedAdamW8bit(groups, weight_decay=decay)
        case "prodigy":
            return _build_prodigy(groups, decay)
        case "schedule_free_adamw":
            return _build_schedule_free(groups, decay)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every group, each at its own ratio."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_ratio"]


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


def _group(parameters: Mapping[str, Parameter], settings: TrainingSettings) -> list[dict[str, Any]]:
    """Set the matrices B apart if they are to learn faster: LoRA+ (arXiv:2402.12354)."""
    ratios = {name: settings.lora_plus_ratio if "lora_B" in name else 1.0 for name in parameters}
    return [
        {
            "params": [p for name, p in parameters.items() if ratios[name] == ratio],
            "lr": settings.learning_rate * ratio,
            "lr_ratio": ratio,
        }
        for ratio in sorted(set(ratios.values()))
    ]


def _build_prodigy(groups: list[dict[str, Any]], weight_decay: float) -> Optimizer:
    """Build Prodigy as its authors advise for diffusion models (github.com/konstmish/prodigy)."""
    library: Any = importlib.import_module(_LIBRARIES["prodigy"])
    with contextlib.redirect_stdout(io.StringIO()):  # it says that weight decay is decoupled
        return library.Prodigy(
            groups, weight_decay=weight_decay, use_bias_correction=True, safeguard_warmup=True
        )


def _build_schedule_free(groups: list[dict[str, Any]], weight_decay: float) -> Optimizer:
    library: Any = importlib.import_module(_LIBRARIES["schedule_free_adamw"])
    optimizer = library.AdamWScheduleFree(groups, weight_decay=weight_decay)
    optimizer.train()  # the parameters are where gradients are taken, not yet their average
    return optimizer
