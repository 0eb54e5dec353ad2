"""Attach a trainable low-rank adapter to a frozen UNet: the one place that knows PEFT layers."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from peft import LoraConfig
from peft.utils.integrations import dequantize_module_weight
from torch import nn
from torch.nn import Parameter

from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.draws import keyed_seed


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that sits on a UNet."""

    unet: UNet2DConditionModel
    parameters: dict[str, Parameter]
    """What is trained, by name, in float32."""

    @contextmanager
    def disabled(self) -> Generator[None]:
        """Make the UNet compute as if the adapter were not there."""
        self.unet.disable_adapters()
        try:
            yield
        finally:
            self.unet.enable_adapters()


def attach_adapter(unet: UNet2DConditionModel, settings: AdapterSettings, seed: int) -> Adapter:
    """Freeze the UNet and add an adapter that as yet changes nothing.

    Args:
        unet: Base model; changed in place.
        settings: Shape of the adapter.
        seed: Determines the adapter's first weights.

    Raises:
        AdapterError: A target matches no layer, or one that cannot be adapted.
    """
    find_targets(unet, settings)
    unet.requires_grad_(requires_grad=False)
    with torch.random.fork_rng():
        torch.manual_seed(keyed_seed(seed, "adapter"))
        unet.add_adapter(lora_config(settings))
    named: dict[str, Parameter] = dict(unet.named_parameters())
    parameters = {name: p for name, p in named.items() if p.requires_grad}
    for parameter in parameters.values():
        # PEFT gives adapters the base's 16-bit type, in which small updates round away.
        parameter.data = parameter.data.float()
    _set_magnitudes(unet)
    return Adapter(unet, parameters)


def lora_config(settings: AdapterSettings) -> LoraConfig:
    """Say to PEFT what the shape of an adapter is."""
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType] - floats work
        lora_dropout=settings.dropout,
        use_dora=settings.decompose,
        use_rslora=settings.rank_stabilized,
        target_modules=list(settings.targets),
        # PEFT reads keys as regular expressions; a whole name matches itself alone. Escaped ones
        # would travel with the file, and our reader takes plain names only.
        rank_pattern={s.layer: s.rank for s in settings.layer_shapes},
        alpha_pattern={s.layer: s.alpha for s in settings.layer_shapes},
    )


def _set_magnitudes(unet: UNet2DConditionModel) -> None:
    """Set every DoRA magnitude to the base weight's norm, in float32.

    PEFT rounds it to the base's 16 bits, but not the norm that it is divided by: the fresh
    adapter would change the base's output by up to 1.5 % in bfloat16.
    """
    modules: dict[str, Any] = dict(cast("Any", unet).named_modules())
    for module in modules.values():
        for magnitude in getattr(module, "lora_magnitude_vector", {}).values():
            weight = dequantize_module_weight(module.get_base_layer())
            magnitude.weight.data = torch.linalg.norm(weight.float(), dim=1)


def find_targets(unet: nn.Module, settings: AdapterSettings) -> dict[str, nn.Linear | nn.Conv2d]:
    """Return the layers that get an adapter, by name.

    Args:
        unet: May be on the meta device, without weights.
        settings: Shape of the adapter.

    Raises:
        AdapterError: A target matches no layer, or one that an adapter cannot sit on.
    """
    modules: dict[str, nn.Module] = dict(cast("Any", unet).named_modules())
    found: dict[str, nn.Linear | nn.Conv2d] = {}
    for target in settings.targets:
        matched = {name: m for name, m in modules.items() if matches(name, target)}
        if not matched:
            raise AdapterError(
                f"adapter.targets: {target!r} matches no layer of the UNet; write the end of a "
                "layer's name, such as 'to_q' or 'ff.net.2'"
            )
        for name, module in matched.items():
            found[name] = _refuse_unfit(target, name, module, settings)
    if strange := [s.layer for s in settings.layer_shapes if s.layer not in found]:
        raise AdapterError(
            f"adapter.layer_shapes: {strange[0]!r} is not among the layers that adapter.targets "
            "names; write a layer's full name"
        )
    return {name: found[name] for name in modules if name in found}


def matches(layer: str, target: str) -> bool:
    """Tell whether a layer is among those that a target names."""
    return layer == target or layer.endswith(f".{target}")


def _refuse_unfit(
    target: str, name: str, module: nn.Module, settings: AdapterSettings
) -> nn.Linear | nn.Conv2d:
    kind = type(module).__name__
    if isinstance(module, nn.Linear):
        return module
    if not isinstance(module, nn.Conv2d):
        raise AdapterError(
            f"adapter.targets: {target!r} matches {name}, a {kind}; "
            "only linear layers and convolutions can be adapted"
        )
    if settings.decompose:
        raise AdapterError(
            f"adapter.targets: {target!r} matches {name}, a {kind}; with decompose = true only "
            "linear layers can be adapted"
        )
    return module
