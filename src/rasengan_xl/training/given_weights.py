"""The weights that are given out, where they are an average of the trained ones."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

_UPDATES = "updates"


class GivenWeights:
    """What is saved, evaluated and drawn with: an average over steps, or the weights as they are.

    The average is exponential (`ema_decay`), or the one that schedule-free AdamW keeps between
    the lines (arXiv:2405.15682, eq. 3-5); with neither, every method does nothing.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        optimizer: Optimizer,
        ema_decay: float | None,
        settle: Callable[[], None],
    ) -> None:
        """Take charge of weights.

        Args:
            parameters: What is trained.
            optimizer: Of these.
            ema_decay: Of the exponential average; None: there is none.
            settle: To be called when weights were changed.
        """
        self._settle = settle
        self._parameters = dict(parameters)
        self._optimizer = optimizer
        self._decay = ema_decay
        self._updates = 0
        self._averages: dict[str, Tensor] = {}
        if ema_decay is not None:
            self._averages = {n: p.detach().float().clone() for n, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an optimizer step that was not skipped.

        Of t steps so far each counts decay^age, and all counts add up to one: Adam's correction
        of bias (arXiv:1412.6980, section 3), without which a short run would give out mostly
        the fresh adapter that it began with.
        """
        if self._decay is None:
            return
        self._updates += 1
        kept = self._decay * (1 - self._decay ** (self._updates - 1))
        kept /= 1 - self._decay**self._updates
        # average <- kept * average + (1 - kept) * weights, for all tensors at once
        average = cast("Any", get_ema_multi_avg_fn(kept))
        weights = [parameter.detach() for parameter in self._parameters.values()]
        average(list(self._averages.values()), weights, self._updates)

    @contextmanager
    def in_place(self) -> Generator[None]:
        """Put the weights to be given out in place of the trained ones for a while.

        Afterwards the trained ones are back bit for bit.
        """
        if not self._updates and not self._is_schedule_free:
            yield
            return
        trained = {name: p.detach().clone() for name, p in self._parameters.items()}
        modes = [group.get("train_mode") for group in self._optimizer.param_groups]
        try:
            self._put_in_place()
            self._settle()
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(trained[name])
            self._settle()
            for group, mode in zip(self._optimizer.param_groups, modes, strict=True):
                if mode is not None:
                    group["train_mode"] = mode

    def state_dict(self) -> dict[str, Tensor]:
        """Return the exponential average and how many steps it holds; nothing if there is none."""
        if self._decay is None:
            return {}
        return {**self._averages, _UPDATES: torch.tensor(self._updates)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` returned, for the same parameters and decay."""
        if self._decay is None:
            return
        self._updates = int(state[_UPDATES].item())
        for name, average in self._averages.items():
            average.copy_(state[name])

    @property
    def _is_schedule_free(self) -> bool:
        return all("train_mode" in group for group in self._optimizer.param_groups)

    @torch.no_grad()
    def _put_in_place(self) -> None:
        if self._is_schedule_free:
            optimizer: Any = self._optimizer
            # Its way back, train(), is not exact: hence the copies that the caller keeps.
            optimizer.eval()
        for name, average in self._averages.items():
            self._parameters[name].copy_(average)
