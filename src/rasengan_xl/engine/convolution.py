"""A convolution that is not trained: its input is not kept for the backward pass.

PyTorch's own keeps it, since the gradient of the weight would need it.
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rasengan_xl.sdxl.convolution_gradient import input_gradient


class FrozenConv2d(nn.Conv2d):
    """A convolution of another's weight and bias, differentiable in its input alone."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            kernel_size=_pair(convolution.kernel_size),
            stride=_pair(convolution.stride),
            padding=_pair(convolution.padding),
            dilation=_pair(convolution.dilation),
            groups=convolution.groups,
            bias=convolution.bias is not None,
            device="meta",
        )
        self.weight = convolution.weight
        self.bias = convolution.bias
        self.train(convolution.training)

    def forward(
        self, input: Float[Tensor, "batch in_channel height width"]
    ) -> Float[Tensor, "batch out_channel rows columns"]:
        """Convolve, in the type of the weight."""
        pictures = input.to(self.weight.dtype)
        if torch.is_grad_enabled() and pictures.requires_grad:
            return cast("Tensor", _FrozenConvolution.apply(pictures, self))
        return super().forward(pictures)


class _FrozenConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pictures: Tensor, layer: FrozenConv2d) -> Tensor:
        ctx.layer, ctx.shape = layer, pictures.shape
        return nn.Conv2d.forward(layer, pictures)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        layer: FrozenConv2d = ctx.layer
        gradient = gradients[0].to(layer.weight.dtype)
        return input_gradient(gradient, layer, layer.weight, ctx.shape), None


def _pair(numbers: tuple[int, ...] | str) -> tuple[int, int]:
    """Read what PyTorch types as any tuple of numbers, or as the name of a padding."""
    if isinstance(numbers, str) or len(numbers) != 2:
        raise TypeError(f"a convolution of pictures by numbers, not {numbers}")
    return numbers[0], numbers[1]
