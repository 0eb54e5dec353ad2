"""Frozen layers whose weights are stored as 8-bit whole numbers, one scale for each output.

Symmetric: a row's largest weight becomes 127 (arXiv:2208.07339, section 2.1).  They compute in the
precision that their weights came in, and are differentiable in their input alone.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor, nn
from torch.nn import functional

from rasengan_xl.sdxl.compute import without_autocast
from rasengan_xl.sdxl.convolution_gradient import input_gradient

LARGEST = 127
Kernel = Float[Tensor, "out ..."]


def round_to_int8(weight: Kernel) -> tuple[Int8[Tensor, "out ..."], Float32[Tensor, "out ..."]]:
    """Return a weight as whole numbers, and the scale of each output, which multiplies them."""
    in_full = weight.float()
    others = tuple(range(1, weight.dim()))
    largest = in_full.abs().amax(dim=others, keepdim=True)
    scale = largest.clamp(min=torch.finfo(torch.float32).tiny * LARGEST) / LARGEST
    return (in_full / scale).round().to(torch.int8), scale


class Int8Linear(nn.Linear):
    """A frozen linear layer of 8-bit weights."""

    scale: Tensor

    def __init__(self, linear: nn.Linear, device: torch.device) -> None:
        """Store a layer anew, on a device."""
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        _take_weights(self, linear, device)

    def forward(self, input: Tensor) -> Tensor:
        """Multiply in the compute precision."""
        return cast("Tensor", _Computed.apply(input, self))

    def compute(self, given: Tensor) -> Tensor:
        """Multiply an input of the compute precision."""
        return functional.linear(given, read_int8(self), self.bias)

    def gradient(self, gradient: Tensor, _: torch.Size) -> Tensor:
        """Return the gradient of the input from that of the output."""
        return gradient @ read_int8(self)


class Int8Conv2d(nn.Conv2d):
    """A frozen convolution of 8-bit weights, whose input is not kept."""

    scale: Tensor

    def __init__(self, convolution: nn.Conv2d, device: torch.device) -> None:
        """Store a layer anew, on a device."""
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            cast("Any", convolution.kernel_size),
            stride=cast("Any", convolution.stride),
            padding=cast("Any", convolution.padding),
            dilation=cast("Any", convolution.dilation),
            groups=convolution.groups,
            bias=False,
            device="meta",
        )
        _take_weights(self, convolution, device)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve in the compute precision."""
        return cast("Tensor", _Computed.apply(input, self))

    def compute(self, given: Tensor) -> Tensor:
        """Convolve an input of the compute precision."""
        convolve: Any = functional.conv2d
        how = self.stride, self.padding, self.dilation, self.groups
        return convolve(given, read_int8(self), self.bias, *how)

    def gradient(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """Return the gradient of an input of a shape from that of the output."""
        return input_gradient(gradient, self, read_int8(self), shape)


def is_int8(layer: nn.Module) -> bool:
    """Tell whether a layer's weight is stored so."""
    return isinstance(layer, nn.Linear | nn.Conv2d) and layer.weight.dtype == torch.int8


def read_int8(layer: nn.Linear | nn.Conv2d, out: Tensor | None = None) -> Kernel:
    """Return a layer's weight in its compute precision, in the order in which it is stored.

    Args:
        layer: Of 8-bit weights.
        out: Where to, in that precision; absent: somewhere new.
    """
    stored: Any = layer
    if out is None:
        out = torch.empty_like(stored.weight, dtype=stored.compute_dtype)
    return torch.mul(stored.weight, stored.scale, out=out)


class _Computed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, layer: Any) -> Tensor:
        ctx.layer, ctx.shape, ctx.dtype = layer, given.shape, given.dtype
        with without_autocast(given.device):
            return layer.compute(given.to(layer.compute_dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None
        gradient = gradients[0].to(ctx.layer.compute_dtype)
        return ctx.layer.gradient(gradient, ctx.shape).to(ctx.dtype), None


def _take_weights(stored: Any, layer: nn.Linear | nn.Conv2d, device: torch.device) -> None:
    """Take over a layer's weights: rounded on the device, where it is fastest."""
    weight, scale = round_to_int8(layer.weight.detach().to(device))
    stored.weight = nn.Parameter(weight, requires_grad=False)
    stored.register_buffer("scale", scale)
    stored.compute_dtype = layer.weight.dtype
    bias = cast("Tensor | None", layer.bias)
    if bias is not None:
        stored.bias = nn.Parameter(bias.detach().to(device), requires_grad=False)
