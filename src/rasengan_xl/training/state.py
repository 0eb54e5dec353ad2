"""All that changes while training, kept so that a run goes on exactly where it stopped."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from rasengan_xl.adapters.attach import Adapter
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.errors import OutputError
from rasengan_xl.tensor_file import UNREADABLE, read_header, read_tensors, write_tensors

_HEADER = "training_state"


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """Adapter, optimizer, loss scale, trace and the number of steps done."""

    adapter: Adapter
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    """Multiplies the loss under fp16; does nothing otherwise."""
    trace: TraceHash
    steps_done: int = 0

    def save(self, file: Path) -> None:
        """Write the state, whole or not at all."""
        tensors: dict[str, Tensor] = {
            f"adapter.{name}": p.detach() for name, p in self.adapter.parameters.items()
        }
        scalars: dict[str, Any] = {}
        state: dict[int, dict[str, Any]] = self.optimizer.state_dict()["state"]
        for index, moments in state.items():
            for name, value in moments.items():
                key = f"optimizer.{index}.{name}"
                if isinstance(value, Tensor):
                    tensors[key] = value
                else:
                    scalars[key] = value
        header = {
            "steps_done": self.steps_done,
            "trace": self.trace.state,
            "scaler": self.scaler.state_dict(),
            "optimizer": scalars,
        }
        write_tensors(file, tensors, {_HEADER: json.dumps(header)})

    def restore(self, file: Path) -> None:
        """Take everything from a file that `save` wrote.

        Raises:
            OutputError: The file is not one of ours, or of another adapter.
        """
        try:
            header = json.loads(read_header(file)[_HEADER])
            tensors = read_tensors(file)
        except (*UNREADABLE, KeyError, ValueError) as error:
            raise OutputError(f"{file}: is not a checkpoint; start the run anew") from error
        for name, parameter in self.adapter.parameters.items():
            parameter.data.copy_(tensors[f"adapter.{name}"])
        self.optimizer.load_state_dict(
            {**self.optimizer.state_dict(), "state": _moments(tensors, header["optimizer"])}
        )
        if header["scaler"]:
            self.scaler.load_state_dict(header["scaler"])
        self.trace.state = header["trace"]
        self.steps_done = header["steps_done"]


def _moments(tensors: dict[str, Tensor], scalars: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Sort `optimizer.<index>.<name>` back into the optimizer's own nesting."""
    moments: dict[int, dict[str, Any]] = {}
    for key, value in (*tensors.items(), *scalars.items()):
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = value
    return moments
