"""How a layer's weight is stored, and what a weight becomes by it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rasengan_xl.config.base_precisions import Store
from rasengan_xl.sdxl.int8_layers import is_int8, round_to_int8
from rasengan_xl.sdxl.nf4_layers import is_nf4, round_to_nf4

Weight = Float[Tensor, "out ..."]


def store_of(layer: nn.Module) -> Store:
    """Tell how a layer's weight is stored."""
    if is_nf4(layer):
        return "nf4"
    return "int8" if is_int8(layer) else "compute"


def round_as(store: Store, weight: Weight, dtype: torch.dtype) -> Weight:
    """Return what a weight is after it was stored so, in float32.

    Args:
        store: How.
        weight: In any precision.
        dtype: The layer's compute precision: a weight has it when it is stored, and is read back
            in it.  NF4's levels are so far apart that where bfloat16 puts a weight on another
            level, its row's norm moves by a third of what NF4 itself moves it.
    """
    match store:
        case "nf4":
            return round_to_nf4(weight.to(dtype)).to(dtype).float()
        case "int8":
            rounded, scale = round_to_int8(weight.to(dtype))
            return (rounded * scale).to(dtype).float()
        case "compute":
            return weight.float()
