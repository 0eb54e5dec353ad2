"""DoRA's gain: the magnitude over the norm of each output (arXiv:2402.09353, eq. 5).

A gain is near 1, where 16-bit numbers are 0.1-0.8 % apart: it is multiplied in float32 and the
product rounded once.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rasengan_xl.engine.kernels.availability import has_kernels, load_kernels
from rasengan_xl.engine.precision import computing_dtype


def apply_gain_(
    product: Float[Tensor, "token out"],
    gain: Float[Tensor, " out"],
    shift: Float[Tensor, " out"] | None,
) -> None:
    """Multiply each output by its gain and add its shift, in place; rows may lie apart."""
    if product.is_meta:
        return
    if has_kernels(product):
        load_kernels("gain").apply_(product, gain, shift)
        return
    # Computed in the gain's type, then rounded.
    product.copy_(product * gain if shift is None else torch.addcmul(shift, product, gain))


def gain_backward(
    gradient: Float[Tensor, "token out"],
    scaled: Float[Tensor, "token out"],
    gain: Float[Tensor, " out"],
    bias: Float[Tensor, " out"] | None = None,
) -> tuple[Float[Tensor, "token out"], Float[Tensor, " out"]]:
    """Return the gradients of the product and of the gain.

    Args:
        gradient: Of the scaled product.
        scaled: The product times the gain, as it left the layer, which something else keeps
            anyway; the product itself is not needed.
        gain: What it was multiplied by; never 0.
        bias: What was added to the scaled product since, if anything.
    """
    if has_kernels(gradient):
        return load_kernels("gain").backward(gradient, scaled, gain, bias)
    if gradient.is_meta:
        return gradient.new_empty(gradient.shape), gain.new_empty(gain.shape)
    wide = computing_dtype(gradient.dtype)
    upstream = gradient.to(wide)
    before = scaled.to(wide) if bias is None else scaled.to(wide) - bias
    of_gain = (upstream * before).sum(dim=0) / gain
    return (upstream * gain).to(gradient.dtype), of_gain.to(gain.dtype)
