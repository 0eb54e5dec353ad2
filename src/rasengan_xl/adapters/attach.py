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
        AdapterError: A target matches no layer, or something other than a linear layer.
    """
    check_targets(unet, settings.targets)
    unet.requires_grad_(requires_grad=False)
    with torch.random.fork_rng():
        torch.manual_seed(keyed_seed(seed, "adapter"))
        unet.add_adapter(
            LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType] - floats work
                lora_dropout=settings.dropout,
                use_dora=settings.decompose,
                use_rslora=settings.rank_stabilized,
                target_modules=list(settings.targets),
            )
        )
    named: dict[str, Parameter] = dict(unet.named_parameters())
    parameters = {name: p for name, p in named.items() if p.requires_grad}
    for parameter in parameters.values():
        # PEFT gives adapters the base's 16-bit type, in which small updates round away.
        parameter.data = parameter.data.float()
    _set_magnitudes(unet)
    return Adapter(unet, parameters)


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


def check_targets(unet: nn.Module, targets: tuple[str, ...]) -> None:
    """Refuse a target that matches nothing, or something an adapter cannot sit on."""
    modules: dict[str, nn.Module] = dict(cast("Any", unet).named_modules())
    for target in targets:
        matched = [name for name in modules if name == target or name.endswith(f".{target}")]
        if not matched:
            raise AdapterError(
                f"adapter.targets: {target!r} matches no layer of the UNet; write the end of a "
                "layer's name, such as 'to_q' or 'ff.net.2'"
            )
        for name in matched:
            if not isinstance(modules[name], nn.Linear):
                kind = type(modules[name]).__name__
                raise AdapterError(
                    f"adapter.targets: {target!r} matches {name}, a {kind}; "
                    "only linear layers can be adapted"
                )
