"""The gradient of what a frozen convolution is given, without what it was given."""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


def input_gradient(
    gradient: Float[Tensor, "batch out_channel rows columns"],
    layer: nn.Conv2d,
    weight: Float[Tensor, "out_channel group_channel down across"],
    shape: torch.Size,
) -> Float[Tensor, "batch in_channel height width"]:
    """Return the gradient of what a convolution was given, of that of what it made.

    By the transposed convolution: PyTorch's own backward pass, without the input at hand, copies
    the gradient out of the order of places and back.

    Args:
        gradient: In the type of the weight.
        layer: Of which the strides and the like are.
        weight: In its compute precision.
        shape: Of what the convolution was given.
    """
    stride, padding, dilation = layer.stride, cast("tuple[int, ...]", layer.padding), layer.dilation
    kernel = layer.kernel_size
    beyond = [
        shape[2 + side]
        - (gradient.shape[2 + side] - 1) * stride[side]
        + 2 * padding[side]
        - dilation[side] * (kernel[side] - 1)
        - 1
        for side in range(2)
    ]
    turn: Any = functional.conv_transpose2d
    return turn(gradient, weight, None, stride, padding, beyond, layer.groups, dilation)
