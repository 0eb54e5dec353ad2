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
    has_work,
    integer_input_gradient,
    integer_product,
    join_integers,
)
from rasengan_xl.engine.weights import compute_dtype, is_plain, read_briefly
from rasengan_xl.sdxl.main_memory import MainMemoryLinear

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
    bias = cast("Tensor | None", layer.bias)
    if as_integers and has_work(given) and (integers := join_integers([layer])):
        return integer_product(given, integers, bias)
    return functional.linear(given, read_briefly(layer), bias)


def base_input_gradient(
    gradient: Outputs, layer: nn.Linear, *, as_integers: bool = False
) -> Inputs:
    """Return the gradient of a frozen layer's input from that of its output."""
    gradient = gradient.to(compute_dtype(layer))
    if as_integers and has_work(gradient) and (integers := join_integers([layer])):
        return integer_input_gradient(gradient, integers)
    return gradient @ read_briefly(layer)


class FrozenLinear(nn.Linear):
    """A frozen layer of another's weight and bias, of whatever base precision.

    bitsandbytes' own keeps a tensor for its backward pass, and gives out whatever precision it is
    given: float32, where a norm before it computes in that under autocast.
    """

    def __init__(self, layer: nn.Linear, *, as_integers: bool = False) -> None:
        """Take over a layer.

        Args:
            layer: Frozen.
            as_integers: While training, multiply int8 weights as integers.
        """
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.compute_dtype = compute_dtype(layer)
        for name, buffer in layer.named_buffers():
            self.register_buffer(name, buffer)
        self._as_integers = as_integers
        self.train(layer.training)

    def forward(self, input: Inputs) -> Outputs:
        """Multiply in the layer's compute precision."""
        return frozen_linear(input, self, as_integers=self._as_integers and self.training)


def replace_linears(model: nn.Module, *, as_integers: bool = False) -> None:
    """Put our own layers in place of those whose weights are stored in fewer bits.

    Names of parameters stay, and the parameters themselves.

    Args:
        model: Frozen.
        as_integers: While training, multiply int8 weights as integers.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, MainMemoryLinear):
                continue
            if isinstance(child, nn.Linear) and not is_plain(child):
                parent.register_module(name, FrozenLinear(child, as_integers=as_integers))


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
