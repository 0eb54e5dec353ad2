"""The gated unit of SDXL's feed-forward layers, value * gelu(gate) (arXiv:2002.05202, eq. 6)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rasengan_xl.engine.kernels.availability import has_kernels, load_kernels
from rasengan_xl.engine.precision import computing_dtype


def geglu(projected: Float[Tensor, "token twice_hidden"]) -> Float[Tensor, "token hidden"]:
    """Multiply the first half of a projection by the exact (erf) GELU of the second.

    Outside of autograd: see `geglu_backward`.
    """
    if projected.is_meta:
        return projected.new_empty(len(projected), projected.shape[1] // 2)
    if has_kernels(projected):
        return load_kernels("geglu").forward(projected)
    value, gate = projected.chunk(2, dim=-1)
    return value * F.gelu(gate)


def geglu_backward_(
    projected: Float[Tensor, "token twice_hidden"], gradient: Float[Tensor, "token hidden"]
) -> Float[Tensor, "token twice_hidden"]:
    """Return the gradient of a projection from that of what `geglu` made of it.

    The GELU and its derivative are computed again, so that the projection is all that a forward
    pass must keep; its gradient takes its place in memory.
    """
    if projected.is_meta:
        return projected
    if has_kernels(projected):
        return load_kernels("geglu").backward_(projected, gradient)
    wide = computing_dtype(projected.dtype)
    value, gate = projected.to(wide).chunk(2, dim=-1)
    upstream = gradient.to(wide)
    normal_cdf = 0.5 * (1 + torch.erf(gate * math.sqrt(0.5)))
    normal_pdf = torch.exp(-0.5 * gate * gate) / math.sqrt(2 * math.pi)
    of_value = upstream * gate * normal_cdf
    of_gate = upstream * value * (normal_cdf + gate * normal_pdf)
    return projected.copy_(torch.cat([of_value, of_gate], dim=-1))
