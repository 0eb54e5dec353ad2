"""All that changes while training, kept so that a run goes on exactly where it stopped."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from rasengan_xl.adapters.attach import Adapter
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.errors import OutputError
from rasengan_xl.tensor_file import UNREADABLE, read_header, read_tensors, write_tensors

_HEADER = "training_state"
_BETWEEN = "/"


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
        for path, value in _leaves({"optimizer": state}):
            if isinstance(value, Tensor):
                tensors[path] = value.clone()  # 8-bit moments share their tables
            else:
                scalars[path] = value
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


def _leaves(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested tables with its path; bitsandbytes nests its moments."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(cast("dict[Any, Any]", value), f"{prefix}{name}{_BETWEEN}")
        else:
            yield f"{prefix}{name}", value


def _moments(tensors: dict[str, Tensor], scalars: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Sort `optimizer/<index>/<name>...` back into the optimizer's own nesting."""
    moments: dict[int, dict[str, Any]] = {}
    for path, value in (*tensors.items(), *scalars.items()):
        first, *names = path.split(_BETWEEN)
        if first == "optimizer":
            index, *tables, name = names
            table = moments.setdefault(int(index), {})
            for inner in tables:
                table = table.setdefault(inner, {})
            table[name] = value
    return moments
