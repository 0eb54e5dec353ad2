"""Store the UNet's linear weights in 4-bit NF4 (QLoRA, arXiv:2305.14314, section 3)."""

from importlib import import_module
from typing import Any, cast

import bitsandbytes
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from rasengan_xl.sdxl.compute import Compute

_layers: Any = bitsandbytes.nn  # carries no types
_functional: Any = import_module("bitsandbytes.functional")

BLOCK_SIZE = 64
"""Weights that share one scale; the scales are themselves quantized ("double quantization")."""


def quantize_linears(unet: UNet2DConditionModel, compute: Compute) -> None:
    """Replace every linear layer's weight by its NF4 form, on the compute device.

    Convolutions, norms and biases are left as they are.
    """
    for name, linear in linears_to_quantize(unet):
        parent_name, _, child_name = name.rpartition(".")
        setattr(unet.get_submodule(parent_name), child_name, _quantized(linear, compute))
    quantized: Any = unet
    quantized.is_loaded_in_4bit = True  # tells PEFT to attach its 4-bit layers


def linears_to_quantize(unet: UNet2DConditionModel) -> list[tuple[str, nn.Linear]]:
    """List the linear layers that NF4 stores in 4 bits."""
    modules: dict[str, nn.Module] = dict(cast("Any", unet).named_modules())
    return [(name, layer) for name, layer in modules.items() if isinstance(layer, nn.Linear)]


def _quantized(linear: nn.Linear, compute: Compute) -> nn.Linear:
    bias = cast("nn.Parameter | None", linear.bias)
    quantized = _layers.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=bias is not None,
        compute_dtype=compute.dtype,
        compress_statistics=True,
        quant_type="nf4",
        device=torch.device("meta"),
    )
    quantized.weight = _layers.Params4bit(
        linear.weight.data,
        requires_grad=False,
        blocksize=BLOCK_SIZE,
        compress_statistics=True,
        quant_type="nf4",
        module=quantized,
    )
    # On some CPUs bitsandbytes repacks a layer's weight in place when it is first evaluated, and
    # computes in bfloat16 from then on: the base would change under the adapter.
    quantized.support_avx512bf16_for_cpu = False
    if bias is not None:
        quantized.bias = nn.Parameter(bias.data, requires_grad=False)
    return quantized.to(compute.device)


def round_to_nf4(weight: Tensor) -> Tensor:
    """Return what a weight is after it was stored in NF4, in float32."""
    stored, state = _functional.quantize_4bit(
        weight.float().contiguous(),
        blocksize=BLOCK_SIZE,
        compress_statistics=True,
        quant_type="nf4",
    )
    return _functional.dequantize_4bit(stored, state).float()
