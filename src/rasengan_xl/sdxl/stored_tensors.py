"""Every tensor that a frozen model consists of, with what quantized weights are read back by."""

from typing import Any, cast

import bitsandbytes
from torch import Tensor, nn

_Params4bit: Any = cast("Any", bitsandbytes.nn).Params4bit


def list_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return weights, and what belongs to them, by name.

    NF4 keeps its scales in no parameter and no buffer; those of a weight `w` are named
    `w.absmax`, `w.offset` and so on.
    """
    found: dict[str, Tensor] = {}
    module: Any = model
    for name, parameter in module.named_parameters():
        found[name] = parameter
        found |= {f"{name}.{key}": tensor for key, tensor in constants_of(parameter).items()}
    return found | dict(module.named_buffers())


def constants_of(weight: Tensor) -> dict[str, Tensor]:
    """Return what an NF4 weight is read back by; nothing for any other."""
    stored: Any = weight
    state = stored.quant_state if isinstance(weight, _Params4bit) else None
    if state is None:
        return {}
    return {
        "absmax": state.absmax,
        "code": state.code,
        "offset": state.offset,
        "state2.absmax": state.state2.absmax,
        "state2.code": state.state2.code,
    }


def stored_bytes(model: nn.Module) -> int:
    """Return what all of it takes, quantization constants included."""
    return sum(tensor.numel() * tensor.element_size() for tensor in list_tensors(model).values())


def constant_bytes(model: nn.Module) -> int:
    """Return what of it are scales and tables of quantized weights."""
    weights: list[Tensor] = list(model.parameters())
    return stored_bytes(model) - sum(w.numel() * w.element_size() for w in weights)
