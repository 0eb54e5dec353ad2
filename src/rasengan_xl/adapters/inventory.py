"""How many weights a UNet and its adapter have, whatever precision they are stored in."""

from torch import nn


def count_trainable_parameters(module: nn.Module) -> int:
    """Count the weights that training changes."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def count_parameters(module: nn.Module) -> int:
    """Count all weights; the two NF4 weights in a byte count as two."""
    return sum(_logical_size(p) for p in module.parameters())


def _logical_size(parameter: nn.Parameter) -> int:
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()
