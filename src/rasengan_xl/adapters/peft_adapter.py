"""An adapter that PEFT computes: the reference, and the only one on convolutions."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor
from torch.nn import Parameter

from rasengan_xl.adapters.adapter import Adapted, Adapter
from rasengan_xl.adapters.fresh import fresh_down
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.weights import read_weight
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.int8_layers import is_int8


@dataclass(frozen=True, kw_only=True)
class PeftAdapter(Adapter):
    """An adapter in PEFT's layers, over diffusers' modules as they are."""

    @contextmanager
    def disabled(self) -> Generator[None]:
        """Make the UNet compute as if the adapter were not there."""
        self.unet.disable_adapters()
        try:
            yield
        finally:
            self.unet.enable_adapters()

    def computing(self, compute: Compute) -> AbstractContextManager[object]:
        """Make the UNet compute in a run's precision, whatever the adapter's own is."""
        return compute.autocast()

    def collect(self) -> None:
        """Do nothing: autograd has brought them."""

    def abandon(self) -> None:
        """Do nothing: there is nothing to collect."""

    def clear_gradients(self) -> None:
        """Begin a new step."""
        for parameter in self.trained.values():
            parameter.grad = None

    def gradients(self) -> Mapping[str, Tensor]:
        """Return those that autograd has brought."""
        return {n: p.grad for n, p in self.trained.items() if p.grad is not None}

    def by_layer(self, values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return them as they are: what is trained goes by the names of PEFT's parameters."""
        return values

    def scales(self) -> Mapping[str, float]:
        """Return those of PEFT's layers."""
        layers: dict[str, Any] = {name: self.unet.get_submodule(name) for name in self.layers}
        return {name: layer.scaling["default"] for name, layer in layers.items()}

    def settle(self) -> None:
        """Do nothing: PEFT computes with the weights themselves."""


def attach_peft(
    unet: UNet2DConditionModel,
    settings: AdapterSettings,
    seed: int,
    layers: Mapping[str, Adapted],
    options: EngineOptions,
) -> PeftAdapter:
    """Put PEFT's layers around those of a frozen UNet.

    Raises:
        AdapterError: PEFT cannot compute DoRA on layers that are stored so.
    """
    if settings.decompose and any(is_int8(layer.base) for layer in layers.values()):
        raise AdapterError(
            'adapter.base_precision = "int8": PEFT\'s DoRA takes int8 for the weights themselves; '
            'leave engine.implementation at "auto", or store the base otherwise'
        )
    if options.memory == "recompute-all":
        unet.enable_gradient_checkpointing()
    with torch.random.fork_rng():
        unet.add_adapter(lora_config(settings))
    named: dict[str, Parameter] = dict(unet.named_parameters())
    parameters = {name: p for name, p in named.items() if p.requires_grad}
    for name, parameter in parameters.items():
        # PEFT gives adapters the base's 16-bit type, in which small updates round away.
        parameter.data = parameter.data.float()
        if ".lora_A." in name:
            layer = name.partition(".lora_A.")[0]
            parameter.data.copy_(fresh_down(seed, layer, parameter.shape))
    _set_magnitudes(parameters, layers)
    return PeftAdapter(
        unet=unet,
        settings=settings,
        options=options,
        parameters=parameters,
        trained=parameters,
        layers=layers,
    )


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


def _set_magnitudes(parameters: Mapping[str, Any], layers: Mapping[str, Adapted]) -> None:
    """Set every DoRA magnitude to the base weight's norm, in float32.

    PEFT rounds it to the base's 16 bits, but not the norm that it is divided by: the fresh
    adapter would change the base's output by up to 1.5 % in bfloat16.
    """
    for name, parameter in parameters.items():
        layer, found, _ = name.partition(".lora_magnitude_vector.")
        if found:
            weight = read_weight(layers[layer].base)
            parameter.data = torch.linalg.norm(weight.float(), dim=1)
