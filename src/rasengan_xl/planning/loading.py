"""What loading a frozen UNet leaves in the allocator: weights, and gaps between them.

Layers are stored in fewer bits one by one, each from main memory, before the rest comes to the
GPU (`sdxl/quantization.py`); what attaching the adapter puts in their place comes after.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from rasengan_xl.planning.recorder import Recorder
from rasengan_xl.sdxl.int8_layers import is_int8
from rasengan_xl.sdxl.main_memory import MainMemoryLinear
from rasengan_xl.sdxl.nf4_layers import BLOCK_SIZE, is_nf4

_FLOAT = 4


def note_loading(recorder: Recorder, unet: nn.Module, dtype: torch.dtype) -> None:
    """Note everything that is allocated while a UNet comes to the GPU, in its order.

    Args:
        recorder: Takes the notes.
        unet: On the meta device, stored as it is to be.
        dtype: In which it lies in main memory.
    """
    layers = list(cast("Any", unet).modules())
    for store in (is_nf4, is_int8):
        for layer in filter(store, layers):
            _note_stored(recorder, layer, dtype)
    weights, buffers = list_resident(unet)
    recorder.hold(weights, "weights")
    recorder.hold(buffers, "constants")


def list_resident(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """List parameters and buffers, but for those that stay in main memory."""
    modules = cast("Any", model).modules()
    parts = [part for part in modules if not isinstance(part, MainMemoryLinear)]
    weights: list[Tensor] = [w for part in parts for w in part.parameters(recurse=False)]
    return weights, [buffer for part in parts for buffer in part.buffers(recurse=False)]


def _note_stored(recorder: Recorder, layer: Any, dtype: torch.dtype) -> None:
    """Note a layer's weight in full, what rounding it takes, and what is left of it."""
    count = layer.in_features * layer.out_features if is_nf4(layer) else layer.weight.numel()
    if is_nf4(layer):
        scales = -(-count // BLOCK_SIZE) * _FLOAT
        passing = [count * dtype.itemsize, scales, scales]
    else:  # in float32, divided by its scale, and rounded
        passing = [count * dtype.itemsize, *[count * _FLOAT] * 3]
    taken = [recorder.ledger.take(size, "loading") for size in passing]
    recorder.hold([layer.weight], "weights")
    recorder.hold([*quantization_constants(layer.weight), *layer.buffers()], "constants")
    for number in taken:
        recorder.ledger.give_back(number)
    if layer.bias is not None:
        recorder.hold([layer.bias], "weights")


def quantization_constants(weight: Any) -> list[Tensor]:
    """List what bitsandbytes keeps beside a 4-bit weight: two levels of scales and codes."""
    found: list[Tensor] = []
    state = getattr(weight, "quant_state", None)
    while state is not None:
        found += [t for t in (state.absmax, state.code, state.offset) if t is not None]
        state = state.state2
    return found
