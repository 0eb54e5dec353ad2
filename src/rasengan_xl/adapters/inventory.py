"""How many weights a UNet and its adapter have, whatever precision they are stored in."""

from collections.abc import Iterable
from typing import Any, cast

from torch import nn

from rasengan_xl.adapters.attach import check_targets
from rasengan_xl.config.settings import AdapterSettings


def count_trainable_parameters(module: nn.Module) -> int:
    """Count the weights that training changes."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def count_parameters(module: nn.Module) -> int:
    """Count all weights; the two NF4 weights in a byte count as two."""
    return sum(_logical_size(p) for p in module.parameters())


def predict_trainable_parameters(unet: nn.Module, settings: AdapterSettings) -> int:
    """Work out, from shapes alone, how many weights an adapter trains.

    Each adapted layer of m inputs and n outputs gets A (r x m) and B (n x r), and under DoRA a
    magnitude for each output (arXiv:2106.09685 section 4.1, arXiv:2402.09353 section 4.1).

    Args:
        unet: May be on the meta device, without weights.
        settings: Shape of the adapter.

    Raises:
        AdapterError: A target matches no layer, or something other than a linear layer.
    """
    check_targets(unet, settings.targets)
    layers = list(_adapted_layers(unet, settings.targets))
    factors = sum(layer.in_features + layer.out_features for layer in layers)
    magnitudes = sum(layer.out_features for layer in layers) if settings.decompose else 0
    return settings.rank * factors + magnitudes


def _adapted_layers(unet: nn.Module, targets: tuple[str, ...]) -> Iterable[nn.Linear]:
    modules: dict[str, nn.Module] = dict(cast("Any", unet).named_modules())
    for name, module in modules.items():
        matches = any(name == target or name.endswith(f".{target}") for target in targets)
        if matches and isinstance(module, nn.Linear):
            yield module


def _logical_size(parameter: nn.Parameter) -> int:
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()
