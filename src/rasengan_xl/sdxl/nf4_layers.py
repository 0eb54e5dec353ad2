"""Frozen linear layers in 4-bit NF4 with doubly quantized scales (arXiv:2305.14314, section 3)."""

from importlib import import_module
from typing import Any, cast

import bitsandbytes
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rasengan_xl.sdxl.compute import Compute

_layers: Any = bitsandbytes.nn  # carries no types
_functional: Any = import_module("bitsandbytes.functional")

BLOCK_SIZE = 64
"""Weights that share one scale."""
SCALES_IN_BLOCK = 256
"""Scales that share one of theirs."""
LEVELS, SCALE_LEVELS = 16, 256
"""Values that a weight can have, and a scale."""

Weight = Float[Tensor, "out ..."]


def store_in_nf4(linear: nn.Linear, compute: Compute) -> nn.Linear:
    """Return a frozen layer of bitsandbytes' that computes nearly the same, on the device.

    Args:
        linear: Its weight; on the meta device only shapes come out.
        compute: The device, which may be the meta device, and the precision to compute in.
    """
    bias = cast("nn.Parameter | None", linear.bias)
    stored = _layers.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=False,
        compute_dtype=compute.dtype,
        compress_statistics=True,
        quant_type="nf4",
        device=torch.device("meta"),
    )
    # On some CPUs bitsandbytes repacks a layer's weight in place when it is first evaluated, and
    # computes in bfloat16 from then on: the base would change under the adapter.
    stored.support_avx512bf16_for_cpu = False
    weight = linear.weight.detach()
    on_device = weight.to(compute.device, torch.float32 if weight.dtype is torch.float64 else None)
    packed, state = _shapes_of(on_device) if on_device.is_meta else _pack(on_device)
    stored.quant_state = state
    stored.weight = _layers.Params4bit(
        packed,
        requires_grad=False,
        quant_state=state,
        blocksize=BLOCK_SIZE,
        compress_statistics=True,
        quant_type="nf4",
        module=stored,
        bnb_quantized=True,
    )
    if bias is not None:
        stored.bias = nn.Parameter(bias.detach().to(compute.device), requires_grad=False)
    return stored


def is_nf4(layer: nn.Module) -> bool:
    """Tell whether a layer's weight is stored so."""
    return isinstance(layer, nn.Linear) and isinstance(layer.weight, _layers.Params4bit)


def read_nf4(layer: nn.Linear, out: Weight | None = None) -> Weight:
    """Return a layer's weight in its compute precision.

    Args:
        layer: Of NF4 weights.
        out: Where to, in that precision and contiguous; absent: somewhere new.
    """
    stored: Any = layer
    packed, state, dtype = stored.weight.data, stored.weight.quant_state, stored.compute_dtype
    if packed.is_meta:
        _ = torch.empty(state.absmax.shape, dtype=torch.float32, device=packed.device)
        return torch.empty(state.shape, dtype=dtype, device=packed.device) if out is None else out
    if out is not None and packed.is_cuda and state.dtype == dtype:
        return _functional.dequantize_4bit(packed, state, out=out)
    weight = _functional.dequantize_4bit(packed, state)
    return weight.to(dtype) if out is None else out.copy_(weight)


def round_to_nf4(weight: Weight) -> Weight:
    """Return what a weight is after it was stored so, in float32."""
    on_device = weight.float() if weight.dtype is torch.float64 else weight
    return _functional.dequantize_4bit(*_pack(on_device)).float()


def _pack(weight: Tensor) -> tuple[Tensor, Any]:
    return _functional.quantize_4bit(
        weight.contiguous(), blocksize=BLOCK_SIZE, compress_statistics=True, quant_type="nf4"
    )


def _shapes_of(weight: Tensor) -> tuple[Tensor, Any]:
    """Return what packing a weight takes, without its numbers."""

    def empty(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=weight.device)

    scales = -(-weight.numel() // BLOCK_SIZE)
    state = _functional.QuantState(
        absmax=empty(scales, dtype=torch.uint8),
        shape=weight.shape,
        code=empty(LEVELS, dtype=torch.float32),
        blocksize=BLOCK_SIZE,
        quant_type="nf4",
        dtype=weight.dtype,
        offset=empty(dtype=torch.float32),
        state2=_functional.QuantState(
            absmax=empty(-(-scales // SCALES_IN_BLOCK), dtype=torch.float32),
            code=empty(SCALE_LEVELS, dtype=torch.float32),
            blocksize=SCALES_IN_BLOCK,
            dtype=torch.float32,
        ),
    )
    return empty(-(-weight.numel() // 2), 1, dtype=torch.uint8), state
