"""The weights that an adapter begins with."""

import math

import torch
from torch import Tensor, nn

from rasengan_xl.sdxl.draws import keyed_generator


def fresh_down(seed: int, layer: str, shape: torch.Size) -> Tensor:
    """Draw the matrix A of a layer, as PEFT does; B begins at zero (arXiv:2106.09685, 4.1).

    It is drawn on the CPU, alike for every device and implementation, and whatever other layers
    there are.
    """
    weights = torch.empty(shape)
    chance = keyed_generator(seed, "adapter", layer)
    nn.init.kaiming_uniform_(weights, a=math.sqrt(5), generator=chance)
    return weights
