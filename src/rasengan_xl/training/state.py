"""All that changes while training, kept so that a run goes on exactly where it stopped."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.errors import DamagedFileError, OutputError
from rasengan_xl.runs.resuming import BATCH_HEADER
from rasengan_xl.tensor_file import (
    UNREADABLE,
    digest_tensors,
    read_header,
    read_tensors,
    write_tensors,
)
from rasengan_xl.training.given_weights import GivenWeights
from rasengan_xl.training.optimizer_state import find_misfit, flatten_optimizer, restore_optimizer

_HEADER = "training_state"
_DIGEST = "sha256"
_ADAPTER, _AVERAGE = "adapter.", "average."


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """Adapter, optimizer, loss scale, trace and the number of steps done."""

    adapter: Adapter
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    """Multiplies the loss under fp16; does nothing otherwise."""
    trace: TraceHash
    given: GivenWeights
    """What is given out where that is not what is trained."""
    steps_done: int = 0
    skipped_steps: list[int] = field(default_factory=list[int])
    """Steps that fp16 overflow made void."""
    notes: list[str] = field(default_factory=list[str])
    """What the user must be told since the last step, one line each; whoever tells it takes it."""
    given_up: set[str] = field(default_factory=set[str])
    """What of the adapter's options could not be had after all."""
    global_batch: int = 0
    """Pictures that all processes together see in an optimizer step."""
    precision: str = ""
    """Of the base and of arithmetic, such as `float16`."""
    zero_terminal_snr: bool = False
    """Whether the adapter learns to begin from pure noise, though its base was trained not to."""

    def save(self, file: Path) -> None:
        """Write the state, whole or not at all.

        Raises:
            UnwritableError: It cannot be written; the file is as it was.
        """
        values = flatten_optimizer(self.optimizer)
        tensors = {name: tensor.detach().cpu() for name, tensor in self._own_tensors()}
        tensors |= {path: v for path, v in values.items() if isinstance(v, Tensor)}
        state = {
            "steps_done": self.steps_done,
            "trace": self.trace.state,
            "scaler": self.scaler.state_dict(),
            "optimizer": {p: v for p, v in values.items() if not isinstance(v, Tensor)},
            "skipped_steps": self.skipped_steps,
            "precision": self.precision,
        }
        text = json.dumps(state)
        digest = digest_tensors(tensors, text)
        header = {_HEADER: text, _DIGEST: digest, BATCH_HEADER: str(self.global_batch)}
        write_tensors(file, tensors, header)

    def restore(self, file: Path) -> None:
        """Take everything from a file that `save` wrote; nothing, if it does not fit.

        Raises:
            DamagedFileError: The file is cut short, altered or not one of ours.
            OutputError: It is of another adapter or optimizer.
        """
        state, tensors = _read(file)
        own = dict(self._own_tensors())
        named = {n: t for n, t in tensors.items() if n.startswith((_ADAPTER, _AVERAGE))}
        values = state["optimizer"] | {n: t for n, t in tensors.items() if n not in named}
        fault = _find_difference(own, named) or find_misfit(self.optimizer, values)
        if fault:
            raise OutputError(f"{file}: is of another run: {fault}; start anew with another --out")
        for name, parameter in self.adapter.parameters.items():
            parameter.data.copy_(tensors[f"{_ADAPTER}{name}"])
        self.adapter.settle()
        given = self.given.state_dict()
        for name, average in self.adapter.by_layer(given).items():
            average.copy_(tensors[f"{_AVERAGE}{name}"])
        self.given.load_state_dict(given)
        restore_optimizer(self.optimizer, values)
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.trace.state = state["trace"]
        self.steps_done = state["steps_done"]
        self.skipped_steps[:] = state["skipped_steps"]

    def _own_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.adapter.parameters.items():
            yield f"{_ADAPTER}{name}", parameter
        for name, average in self.adapter.by_layer(self.given.state_dict()).items():
            yield f"{_AVERAGE}{name}", average


def read_precision(file: Path) -> str:
    """Return the precision that a sound checkpoint was made in."""
    return json.loads(read_header(file)[_HEADER])["precision"]


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint, and make sure that every bit of it is what was written."""
    try:
        header = read_header(file)
        text, digest = header[_HEADER], header[_DIGEST]
        tensors = read_tensors(file)
    except (*UNREADABLE, KeyError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{file}: is not a whole checkpoint") from error
    if digest_tensors(tensors, text) != digest:
        raise DamagedFileError(f"{file}: is not what was written")
    return json.loads(text), tensors


def _find_difference(own: dict[str, Tensor], in_file: dict[str, Tensor]) -> str | None:
    """Name the first tensor that is missing, too much or of another shape."""
    for name in (*own, *in_file):
        if name not in in_file:
            return f"{name} is missing"
        if name not in own:
            return f"{name} is too much"
        if own[name].shape != in_file[name].shape:
            return f"{name} is {tuple(in_file[name].shape)}, here {tuple(own[name].shape)}"
    return None
