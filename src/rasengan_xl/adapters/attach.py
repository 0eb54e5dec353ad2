"""Attach a trainable low-rank adapter to a frozen UNet."""

from typing import Any, cast

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from rasengan_xl.adapters.adapter import Adapted, Adapter
from rasengan_xl.adapters.fused_adapter import attach_fused
from rasengan_xl.adapters.peft_adapter import attach_peft
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.rebuild import is_rebuilt
from rasengan_xl.errors import AdapterError


def attach_adapter(
    unet: UNet2DConditionModel,
    settings: AdapterSettings,
    seed: int,
    options: EngineOptions | None = None,
) -> Adapter:
    """Freeze the UNet and add an adapter that as yet changes nothing.

    Args:
        unet: Base model; changed in place.
        settings: Shape of the adapter.
        seed: Determines the adapter's first weights.
        options: How it is computed; None: as `fits_fused` tells, with nothing recomputed.

    Raises:
        AdapterError: A target matches no layer, or one that cannot be adapted, or the UNet has an
            adapter of ours already.
    """
    if is_rebuilt(unet):  # a second one would sit on layers that are no longer computed
        raise AdapterError("this UNet has an adapter already; load the base model anew")
    found = find_targets(unet, settings)
    layers = {n: Adapted(base=m, scale=settings.scale_of(n)) for n, m in found.items()}
    if options is None:
        options = EngineOptions(implementation="fused" if fits_fused(found) else "peft")
    if options.implementation == "fused":
        refuse_convolutions(found)
    unet.requires_grad_(requires_grad=False)
    attach = attach_fused if options.implementation == "fused" else attach_peft
    return attach(unet, settings, seed, layers, options)


def fits_fused(targets: dict[str, nn.Linear | nn.Conv2d]) -> bool:
    """Tell whether our own layers can compute an adapter on these."""
    return all(isinstance(layer, nn.Linear) for layer in targets.values())


def refuse_convolutions(targets: dict[str, nn.Linear | nn.Conv2d]) -> None:
    """Refuse targets that only PEFT can compute.

    Raises:
        AdapterError: One is a convolution.
    """
    for name, layer in targets.items():
        if not isinstance(layer, nn.Linear):
            raise AdapterError(
                f'engine.implementation = "fused": adapter.targets match {name}, a convolution; '
                'set engine.implementation = "peft", or leave it at "auto"'
            )


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
