"""The end of an optimizer step: from gradients to weights that are ready to be computed with."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW, Optimizer

from rasengan_xl.training.state import TrainingState


class StepEnd:
    """Unscales, clips, steps and settles; nothing changes where loss or gradient is not finite."""

    def __init__(self, state: TrainingState, max_gradient_norm: float) -> None:
        """Prepare for all steps of a run."""
        self._state = state
        self._max_norm = max_gradient_norm
        self._parameters = tuple(state.adapter.trained.values())
        groups, device = len(state.optimizer.param_groups), self._parameters[0].device
        self._rates = torch.zeros(groups, device=device).unbind()

    @property
    def waits_for_nothing(self) -> bool:
        """Whether the device decides by itself that a step is void."""
        optimizer = self._state.optimizer
        return isinstance(optimizer, AdamW) and bool(optimizer.defaults["fused"])

    def take_rates(self) -> None:
        """Take over the learning rates that the optimizer's groups have now."""
        for rate, group in zip(self._rates, self._state.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])

    @torch.no_grad()
    def finish(self, loss: Tensor) -> Tensor:
        """Take the step with what all micro-batches have added up.

        Args:
            loss: Of the step; a single number.

        Returns:
            The gradient's norm before clipping, a single number on the device.
        """
        scaler, optimizer = self._state.scaler, self._state.optimizer
        scaler.unscale_(optimizer)
        norm = get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        is_finite = norm.isfinite()
        # A norm that is no number would make every gradient none: nobody could tell whose it is.
        shown = norm.where(is_finite, torch.zeros_like(norm))
        clip_grads_with_norm_(self._parameters, self._max_norm, shown)
        is_sound = is_finite & loss.isfinite()
        if self.waits_for_nothing:
            with _on_device(optimizer, self._rates, is_sound):
                optimizer.step()
        elif is_sound:
            optimizer.step()
        scaler.update()
        self._state.adapter.settle()
        return norm


@contextmanager
def _on_device(
    optimizer: Optimizer, rates: tuple[Tensor, ...], is_sound: Tensor
) -> Generator[None]:
    """Let a fused optimizer read from the device what it otherwise knows on the host.

    A void step is one by `found_inf`, as under a GradScaler.  Checkpoints know nothing of it.
    """
    is_recorded = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    kept = [(group["lr"], group["capturable"]) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"], group["capturable"] = rate, is_recorded
    vars(optimizer)["found_inf"] = (~is_sound).float()
    try:
        yield
    finally:
        del vars(optimizer)["found_inf"]
        for group, (rate, is_capturable) in zip(optimizer.param_groups, kept, strict=True):
            group["lr"], group["capturable"] = rate, is_capturable
