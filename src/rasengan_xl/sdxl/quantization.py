"""Store a UNet's frozen weights in fewer bits: NF4 (arXiv:2305.14314, section 3) or int8."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, cast

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from rasengan_xl.config.base_precisions import STORAGES, BasePrecision, Store
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.int8_layers import Int8Conv2d, Int8Linear
from rasengan_xl.sdxl.main_memory import MAIN_MEMORY, MainMemoryLinear
from rasengan_xl.sdxl.nf4_layers import store_in_nf4

KEPT = ("conv_in", "conv_out")
"""Convolutions that are never quantized: all of the latents goes through them, in four channels,
and they take 45 KB."""


def quantize(
    unet: UNet2DConditionModel,
    compute: Compute,
    precision: BasePrecision,
    held_back: Collection[str] = (),
) -> None:
    """Store the weights of linear layers and convolutions as a base precision has them.

    Each comes to the device by itself, so that it never holds more than one in full.  Norms and
    biases are left as they are.

    Args:
        unet: In main memory, or on the meta device: then only shapes come out.
        compute: The device, which may be the meta device, and the precision to compute in.
        precision: How; `full` leaves all as it is.
        held_back: Linear layers whose weights stay in main memory, stored alike.
    """
    storage = STORAGES[precision]
    for name in held_back:
        layer = cast("nn.Linear", unet.get_submodule(name))
        unet.set_submodule(name, hold_back(layer, compute, precision))
    for name, store in _list_stores(unet, storage.linears, storage.convolutions).items():
        parent_name, _, child_name = name.rpartition(".")
        parent = unet.get_submodule(parent_name)
        setattr(parent, child_name, _stored(getattr(parent, child_name), store, compute))
    if storage.linears == "nf4":
        told: Any = unet
        told.is_loaded_in_4bit = True  # tells PEFT to attach its 4-bit layers


def hold_back(layer: nn.Linear, compute: Compute, precision: BasePrecision) -> MainMemoryLinear:
    """Store a layer as a base precision has it, in main memory.

    Args:
        layer: In main memory; on the meta device only shapes come out.
        compute: The device that it will be needed on, and the precision to compute in.
        precision: How it is stored.
    """
    store = STORAGES[precision].linears
    if store == "compute":
        return MainMemoryLinear(layer)
    there = compute if layer.weight.is_meta else replace(compute, device=MAIN_MEMORY)
    return MainMemoryLinear(cast("nn.Linear", _stored(layer, store, there)))


def linears_to_quantize(unet: UNet2DConditionModel) -> list[tuple[str, nn.Linear]]:
    """List the linear layers whose weights can be stored in fewer bits."""
    modules: dict[str, nn.Module] = dict(cast("Any", unet).named_modules())
    return [
        (name, layer)
        for name, layer in modules.items()
        if isinstance(layer, nn.Linear) and not isinstance(layer, MainMemoryLinear)
    ]


def convolutions_to_quantize(unet: UNet2DConditionModel) -> list[tuple[str, nn.Conv2d]]:
    """List the convolutions whose weights can be stored in fewer bits."""
    modules: dict[str, nn.Module] = dict(cast("Any", unet).named_modules())
    found = [(name, layer) for name, layer in modules.items() if isinstance(layer, nn.Conv2d)]
    return [(name, layer) for name, layer in found if name not in KEPT]


def _list_stores(
    unet: UNet2DConditionModel, linears: Store, convolutions: Store
) -> dict[str, Store]:
    """Name the layers that are stored anew: who held them would keep their weights in memory."""
    stores: dict[str, Store] = {}
    if linears != "compute":
        stores |= {name: linears for name, _ in linears_to_quantize(unet)}
    if convolutions != "compute":
        stores |= {name: convolutions for name, _ in convolutions_to_quantize(unet)}
    return stores


def _stored(layer: nn.Linear | nn.Conv2d, store: Store, compute: Compute) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        assert store == "int8"
        return Int8Conv2d(layer, compute.device)
    if store == "int8":
        return Int8Linear(layer, compute.device)
    return store_in_nf4(layer, compute)
