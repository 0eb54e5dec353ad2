"""A change that is computed beside the base layer, whose weight stays as it is."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rasengan_xl.adapters.changes import Change, Decomposed, LowRank, on_layer, weight_change
from rasengan_xl.engine.weights import read_weight

Addition = Callable[[Tensor, Tensor], Tensor]
"""From a layer's input and output to what is added to its output."""


class UnfusedChange:
    """A layer whose output is changed after it: for weights in few bits, and to round nothing."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        self._layer = layer
        self._additions: list[Addition] = []
        self._hook = layer.register_forward_hook(self._add)

    def set(self, changes: Sequence[tuple[Change, float]]) -> None:
        """Work out what is added: everything that does not depend on the input, once."""
        self._additions = [
            _addition(self._layer, on_layer(change, self._layer), strength)
            for change, strength in changes
        ]

    def remove(self) -> None:
        """Leave the layer as it was."""
        self._hook.remove()

    def _add(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        additions = [addition(inputs[0], output) for addition in self._additions]
        return output + torch.stack(additions).sum(0) if additions else output


@torch.no_grad()
def _addition(layer: nn.Linear | nn.Conv2d, change: Change, strength: float) -> Addition:
    if isinstance(layer, nn.Linear) and isinstance(change, LowRank) and change.mid is None:
        return _low_rank(layer, change, strength, gain=None)
    if (
        isinstance(layer, nn.Linear)
        and isinstance(change, Decomposed)
        and change.axis == "output"
        and isinstance(change.direction, LowRank)
    ):
        gain = change.gain(_weight_of(layer)).flatten()
        return _low_rank(layer, change.direction, strength, gain=gain)
    return _dense(layer, strength * weight_change(change, _weight_of(layer)))


def _low_rank(layer: nn.Linear, change: LowRank, strength: float, gain: Tensor | None) -> Addition:
    """Add s g (B A x) + s (g - 1) W x, where W x is the layer's output without its bias."""
    device = layer.weight.device
    down = change.down.to(device, torch.float32).flatten(1)
    up = change.up.to(device, torch.float32).flatten(1) * (strength * change.scale)
    bias = cast("Tensor | None", layer.bias)

    def add(given: Tensor, output: Tensor) -> Tensor:
        a, b = down.to(given.device, given.dtype), up.to(given.device, given.dtype)
        low = functional.linear(functional.linear(given, a), b)
        if gain is None:
            return low.to(output.dtype)
        # In float32, like the gain: it is so near 1 that 16 bits would lose it.
        base = output.float() if bias is None else output.float() - bias.float()
        g = gain.to(given.device)
        return (g * low + strength * (g - 1) * base).to(output.dtype)

    return add


def _dense(layer: nn.Linear | nn.Conv2d, change: Tensor) -> Addition:
    def add(given: Tensor, output: Tensor) -> Tensor:
        weight = change.to(given.device, given.dtype)
        if isinstance(layer, nn.Linear):
            return functional.linear(given, weight).to(output.dtype)
        convolve: Any = functional.conv2d
        of = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return convolve(given, weight, None, *of).to(output.dtype)

    return add


def _weight_of(layer: nn.Linear | nn.Conv2d) -> Tensor:
    """Return the weight as numbers, also if it is stored in fewer bits."""
    return read_weight(layer).float()
