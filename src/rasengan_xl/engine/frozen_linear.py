"""A frozen linear layer: y = x W^T + b, and of its gradients the input's alone, dX = dY W.

Nothing is kept for the backward pass, and nothing is cast but an input that is not yet in the
layer's compute precision.  A weight in fewer bits is read once forward and once backward.
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rasengan_xl.engine.integer_products import (
    can_multiply_integers,
    integer_input_gradient,
    integer_product,
)
from rasengan_xl.engine.weights import compute_dtype, read_briefly

Inputs = Float[Tensor, "*token inside"]
Outputs = Float[Tensor, "*token outside"]


def frozen_linear(given: Inputs, layer: nn.Linear, *, as_integers: bool = False) -> Outputs:
    """Compute a frozen layer, differentiable in its input.

    Args:
        given: Of any precision; the output is in the layer's.
        layer: Of any base precision.
        as_integers: Multiply int8 weights as integers.
    """
    return cast("Tensor", _FrozenLinear.apply(given, layer, as_integers))


def base_product(given: Inputs, layer: nn.Linear, *, as_integers: bool = False) -> Outputs:
    """Compute a frozen layer, without its gradient."""
    given = given.to(compute_dtype(layer))
    if as_integers and can_multiply_integers(given, layer):
        return integer_product(given, layer)
    bias = cast("Tensor | None", layer.bias)
    return functional.linear(given, read_briefly(layer), bias)


def base_input_gradient(
    gradient: Outputs, layer: nn.Linear, *, as_integers: bool = False
) -> Inputs:
    """Return the gradient of a frozen layer's input from that of its output."""
    gradient = gradient.to(compute_dtype(layer))
    if as_integers and can_multiply_integers(gradient, layer):
        return integer_input_gradient(gradient, layer)
    return gradient @ read_briefly(layer)


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, layer: nn.Linear, as_integers: bool) -> Tensor:  # noqa: FBT001
        ctx.layer, ctx.as_integers, ctx.dtype = layer, as_integers, given.dtype
        return base_product(given, layer, as_integers=as_integers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None, None
        found = base_input_gradient(gradients[0], ctx.layer, as_integers=ctx.as_integers)
        return found.to(ctx.dtype), None, None
