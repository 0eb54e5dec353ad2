"""How many weights a UNet and its adapter have, whatever precision they are stored in."""

from math import prod

from torch import nn

from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.adapters.attach import find_targets
from rasengan_xl.config.settings import AdapterSettings


def count_parameters(module: nn.Module) -> int:
    """Count all weights; the two NF4 weights in a byte count as two."""
    return sum(_logical_size(p) for p in module.parameters())


def count_all_parameters(adapter: Adapter) -> int:
    """Count the weights of an adapter and of the UNet it sits on."""
    frozen = [p for p in adapter.unet.parameters() if not p.requires_grad]
    return sum(map(_logical_size, frozen)) + adapter.parameter_count


def predict_trainable_parameters(unet: nn.Module, settings: AdapterSettings) -> int:
    """Work out, from shapes alone, how many weights an adapter trains.

    Each adapted layer of m inputs and n outputs gets A (r x m) and B (n x r), and under DoRA a
    magnitude for each output (arXiv:2106.09685 section 4.1, arXiv:2402.09353 section 4.1); of a
    convolution, A has the kernel, too.

    Args:
        unet: May be on the meta device, without weights.
        settings: Shape of the adapter.

    Raises:
        AdapterError: A target matches no layer, or one that cannot be adapted.
    """
    count = 0
    for name, layer in find_targets(unet, settings).items():
        inputs, outputs = _sizes(layer)
        count += settings.rank_of(name) * (inputs + outputs)
        count += outputs if settings.decompose else 0
    return count


def _sizes(layer: nn.Linear | nn.Conv2d) -> tuple[int, int]:
    """Return how many numbers an output is made of, and how many outputs there are."""
    if isinstance(layer, nn.Linear):  # in 4 bits its weight has another shape
        return layer.in_features, layer.out_features
    return layer.in_channels // layer.groups * prod(layer.kernel_size), layer.out_channels


def _logical_size(parameter: nn.Parameter) -> int:
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()
