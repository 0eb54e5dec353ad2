"""An adapter that our own layers compute."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from rasengan_xl.adapters.adapter import Adapted, Adapter
from rasengan_xl.adapters.fresh import fresh_down
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.flat_layout import AdaptedLayer
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.rebuild import Rebuilt, Shape, rebuild
from rasengan_xl.engine.weights import compute_dtype
from rasengan_xl.sdxl.compute import Compute


@dataclass(frozen=True, kw_only=True)
class FusedAdapter(Adapter):
    """An adapter in one piece of memory, computed by grouped projections."""

    rebuilt: Rebuilt

    @contextmanager
    def disabled(self) -> Generator[None]:
        """Make the UNet compute as if the adapter were not there."""
        flat = self.rebuilt.adapter
        before, flat.enabled = flat.enabled, False
        try:
            yield
        finally:
            flat.enabled = before

    def computing(self, compute: Compute) -> AbstractContextManager[object]:
        """Do nothing: everything is in the compute precision already."""
        del compute
        return nullcontext()

    def collect(self) -> None:
        """Add gradients of the compute precision to those in float32."""
        self.rebuilt.adapter.collect()

    def abandon(self) -> None:
        """Forget gradients of the compute precision."""
        self.rebuilt.adapter.abandon()

    def clear_gradients(self) -> None:
        """Begin a new step."""
        self.rebuilt.adapter.clear_gradients()

    def gradients(self) -> Mapping[str, Tensor]:
        """Return those that have been collected."""
        return self.rebuilt.adapter.named_gradients()

    def by_layer(self, values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Cut flat values up."""
        return self.rebuilt.adapter.by_layer(values)

    def scales(self) -> Mapping[str, float]:
        """Return those that were laid out with the factors."""
        stacks = self.rebuilt.adapter.stacks
        return {layer.name: layer.scale for stack in stacks for layer in stack.layers}

    def settle(self) -> None:
        """Bring the shadow and DoRA's gains up to date."""
        self.rebuilt.settle()


def attach_fused(
    unet: UNet2DConditionModel,
    settings: AdapterSettings,
    seed: int,
    layers: Mapping[str, Adapted],
    options: EngineOptions,
) -> FusedAdapter:
    """Put our own layers into a frozen UNet, and a fresh adapter on them."""
    first = next(iter(layers.values())).base
    device, dtype = unet.device, compute_dtype(first)
    rebuilt = rebuild(
        unet,
        {name: _describe(name, layer, settings) for name, layer in layers.items()},
        options,
        Shape(decompose=settings.decompose, dropout=settings.dropout, dtype=dtype, device=device),
    )
    parameters = rebuilt.adapter.named_weights()
    if device.type != "meta":
        _draw(parameters, seed)
    rebuilt.settle()
    return FusedAdapter(
        unet=unet,
        settings=settings,
        options=options,
        parameters=parameters,
        trained=rebuilt.adapter.trained,
        layers=layers,
        rebuilt=rebuilt,
    )


@torch.no_grad()
def _draw(parameters: Mapping[str, Tensor], seed: int) -> None:
    for name, weights in parameters.items():
        layer, found, _ = name.partition(".lora_A.")
        if found:
            weights.copy_(fresh_down(seed, layer, weights.shape))


def _describe(name: str, layer: Adapted, settings: AdapterSettings) -> AdaptedLayer:
    base = cast("nn.Linear", layer.base)
    return AdaptedLayer(
        name=name,
        inputs=base.in_features,
        outputs=base.out_features,
        rank=settings.rank_of(name),
        scale=layer.scale,
    )
