"""Read a frozen layer's weight, however it is stored, into memory that all layers share."""

from collections.abc import Iterable
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rasengan_xl.sdxl.int8_layers import is_int8, read_int8
from rasengan_xl.sdxl.nf4_layers import is_nf4, read_nf4
from rasengan_xl.sdxl.stores import store_of

Weight = Float[Tensor, "out ..."]
Layer = nn.Linear | nn.Conv2d
Place = tuple[torch.device, torch.dtype]

_buffers: dict[Place, list[Tensor]] = {}
"""The last one is in use; a recorded CUDA graph may still write to those before it."""


def is_plain(layer: nn.Module) -> bool:
    """Tell whether a layer's weight is stored as it computes."""
    return store_of(layer) == "compute"


def compute_dtype(layer: Layer) -> torch.dtype:
    """Return what a frozen layer computes in."""
    if is_plain(layer):
        return layer.weight.dtype
    stored: Any = layer
    return stored.compute_dtype


def weight_shape(layer: Layer) -> torch.Size:
    """Return the shape of a layer's weight, also where NF4 packs it."""
    if isinstance(layer, nn.Linear):
        return torch.Size((layer.out_features, layer.in_features))
    return layer.weight.shape


def read_weight(layer: Layer, out: Weight | None = None) -> Weight:
    """Return a frozen layer's weight in its compute precision.

    Args:
        layer: Of any base precision.
        out: Where to, if it is not stored plainly; absent: somewhere new.
    """
    if is_int8(layer):
        return read_int8(layer, out)
    if isinstance(layer, nn.Linear) and is_nf4(layer):
        return read_nf4(layer, out)
    return layer.weight.detach()


def read_briefly(layer: Layer) -> Weight:
    """Return a frozen layer's weight, valid until the next one on its device is read so."""
    if is_plain(layer):
        return layer.weight.detach()
    shape, place = weight_shape(layer), (layer.weight.device, compute_dtype(layer))
    if layer.weight.dim() == len("nchw") and _is_channels_last(layer.weight):
        out, inside, height, width = shape
        by_place = scratch((out, height, width, inside), *place)
        return read_weight(layer, by_place.permute(0, 3, 1, 2))
    return read_weight(layer, scratch(shape, *place))


def scratch(shape: Iterable[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return memory for weights that are needed briefly: there is one such on each device.

    It grows to the largest that was asked for, which `reserve_scratch` does beforehand.
    """
    shape = tuple(shape)
    buffers = _buffers.setdefault((device, dtype), [])
    if not buffers or buffers[-1].numel() < prod(shape):
        assert not _is_recorded(device), "a CUDA graph is recorded after its memory was reserved"
        buffers.append(torch.empty(prod(shape), device=device, dtype=dtype))
    return buffers[-1][: prod(shape)].view(shape)


def reserve_scratch(model: nn.Module) -> None:
    """Make room for the largest weight of a model that has to be read from fewer bits."""
    largest: dict[Place, int] = {}
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and not is_plain(layer):
            place = (layer.weight.device, compute_dtype(layer))
            largest[place] = max(largest.get(place, 0), prod(weight_shape(layer)))
    for place, numbers in largest.items():
        scratch((numbers,), *place)


def release_scratch(kind: str | None = None) -> None:
    """Give the memory back; nothing may be using it, not even a recorded CUDA graph.

    Args:
        kind: Of the device whose memory it is; None: of all.
    """
    for place in [each for each in _buffers if kind in (None, each[0].type)]:
        del _buffers[place]


def _is_recorded(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _is_channels_last(weight: Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
