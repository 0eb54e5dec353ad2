"""Train one part of mini SDXL: a resumable loop whose every step depends on its number alone."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from rasengan_xl.tensor_file import read_tensors, write_tensors

LossAtStep = Callable[[Generator], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How one part is trained."""

    steps: int
    learning_rate: float
    seed: int
    warmup_steps: int = 100
    max_gradient_norm: float = 1.0
    ema_decay: float = 0.999
    """Share of the running average of the weights kept at each step."""
    save_every: int = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRecord:
    """What one step measured."""

    step: int
    loss: float
    learning_rate: float


class RunningAverage:
    """Exponential moving average of a module's parameters (decay grows while young)."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = module
        self.decay = decay
        self.values = [p.detach().clone() for p in module.parameters()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the module's present weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for value, parameter in zip(self.values, self.module.parameters(), strict=True):
            value.lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def copy_to_module(self) -> None:
        """Replace the module's weights by their average."""
        for parameter, value in zip(self.module.parameters(), self.values, strict=True):
            parameter.copy_(value)


def fit(
    module: nn.Module, loss_at_step: LossAtStep, settings: FitSettings, checkpoint: Path
) -> Iterator[FitRecord]:
    """Minimise a loss, continuing from the checkpoint if there is one; end on averaged weights.

    Args:
        module: What to train; changed in place.
        loss_at_step: Loss of one step, drawing all its chance from the generator it is given.
        settings: How long and how fast.
        checkpoint: File that holds the state between two sessions.
    """
    optimizer = AdamW(module.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    average = RunningAverage(module, settings.ema_decay)
    done = _restore(module, optimizer, average, checkpoint) if checkpoint.exists() else 0
    module.train()

    for step in range(done + 1, settings.steps + 1):
        learning_rate = settings.learning_rate * _schedule(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        loss = loss_at_step(_generator(settings.seed, step))
        loss.backward()
        clip_grad_norm_(module.parameters(), settings.max_gradient_norm, error_if_nonfinite=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(step)
        if step % settings.save_every == 0 or step == settings.steps:
            _keep(module, optimizer, average, step, checkpoint)
        yield FitRecord(step=step, loss=loss.item(), learning_rate=learning_rate)

    average.copy_to_module()
    module.eval()


def _schedule(step: int, settings: FitSettings) -> float:
    """Linear warm-up, then half a cosine down to one hundredth."""
    if step <= settings.warmup_steps:
        return step / settings.warmup_steps
    course = (step - settings.warmup_steps) / (settings.steps - settings.warmup_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * course))


def _generator(seed: int, step: int) -> Generator:
    return Generator().manual_seed(seed * 1_000_003 + step)


def _keep(
    module: nn.Module, optimizer: AdamW, average: RunningAverage, step: int, file: Path
) -> None:
    state = {f"module.{name}": value for name, value in module.state_dict().items()}
    state |= {f"average.{i}": value for i, value in enumerate(average.values)}
    for i, moments in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
    write_tensors(file, state, {"step": str(step)})


def _restore(module: nn.Module, optimizer: AdamW, average: RunningAverage, file: Path) -> int:
    state = read_tensors(file)
    part = {name: value for name, value in state.items() if name.startswith("module.")}
    module.load_state_dict({name.removeprefix("module."): value for name, value in part.items()})
    for i, value in enumerate(average.values):
        value.copy_(state[f"average.{i}"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith("optimizer."):
            _, index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return int(moments[0]["step"].item())
