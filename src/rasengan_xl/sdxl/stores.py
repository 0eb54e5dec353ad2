"""How a layer's weight is stored, and what a weight becomes by it."""

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


def round_as(store: Store, weight: Weight) -> Weight:
    """Return what a weight is after it was stored so, in float32."""
    match store:
        case "nf4":
            return round_to_nf4(weight)
        case "int8":
            rounded, scale = round_to_int8(weight)
            return rounded * scale
        case "compute":
            return weight.float()
