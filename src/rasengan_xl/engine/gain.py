"""DoRA's gain: the magnitude over the norm of each output (arXiv:2402.09353, eq. 5).

A gain is near 1, where 16-bit numbers are 0.1-0.8 % apart: it is multiplied in float32 and the
product rounded once.
"""

from jaxtyping import Float
from torch import Tensor

from rasengan_xl.engine.kernels.availability import has_kernels, load_kernels
from rasengan_xl.engine.precision import computing_dtype


def apply_gain_(product: Float[Tensor, "token out"], gain: Float[Tensor, " out"]) -> None:
    """Multiply each output by its gain, in place; rows may lie apart."""
    if product.is_meta:
        return
    if has_kernels(product):
        load_kernels("gain").apply_(product, gain)
    else:
        product.mul_(gain)  # computed in the gain's type, then rounded


def gain_backward(
    gradient: Float[Tensor, "token out"],
    scaled: Float[Tensor, "token out"],
    gain: Float[Tensor, " out"],
) -> tuple[Float[Tensor, "token out"], Float[Tensor, " out"]]:
    """Return the gradients of the product and of the gain.

    Args:
        gradient: Of the scaled product.
        scaled: The product times the gain, as it left the layer, which something else keeps
            anyway; the product itself is not needed.
        gain: What it was multiplied by; never 0.
    """
    if has_kernels(gradient):
        return load_kernels("gain").backward(gradient, scaled, gain)
    if gradient.is_meta:
        return gradient.new_empty(gradient.shape), gain.new_empty(gain.shape)
    wide = computing_dtype(gradient.dtype)
    upstream = gradient.to(wide)
    of_gain = (upstream * scaled.to(wide)).sum(dim=0) / gain
    return (upstream * gain).to(gradient.dtype), of_gain.to(gain.dtype)
