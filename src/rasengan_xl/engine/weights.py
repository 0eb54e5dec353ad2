"""The weight of a frozen layer, however it is stored."""

from importlib import import_module
from typing import Any

import bitsandbytes
import torch
from torch import Tensor, nn

_functional: Any = import_module("bitsandbytes.functional")
_layers: Any = bitsandbytes.nn  # carries no types


def is_plain(layer: nn.Linear | nn.Conv2d) -> bool:
    """Tell whether a layer's weight is stored as it is computed with."""
    return not isinstance(layer, _layers.Linear4bit)


def read_weight(layer: nn.Linear | nn.Conv2d, out: Tensor | None = None) -> Tensor:
    """Return a frozen layer's weight in its compute precision."""
    if is_plain(layer):
        return layer.weight.detach()
    weight: Any = layer.weight
    return _functional.dequantize_4bit(weight.data, weight.quant_state, out=out)


def compute_dtype(layer: nn.Linear | nn.Conv2d) -> torch.dtype:
    """Return what a layer computes in."""
    if is_plain(layer):
        return layer.weight.dtype
    weight: Any = layer.weight
    return weight.quant_state.dtype
