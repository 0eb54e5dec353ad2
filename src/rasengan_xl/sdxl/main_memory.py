"""Frozen layers whose weights stay in main memory, wherever the rest of their model lies."""

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rasengan_xl.sdxl.int8_layers import is_int8, read_int8
from rasengan_xl.sdxl.nf4_layers import is_nf4, read_nf4

MAIN_MEMORY = torch.device("cpu")


class MainMemoryLinear(nn.Linear):
    """A frozen linear layer whose weight comes to the device whenever it computes.

    That takes long: it is for what is computed now and then.
    """

    def __init__(self, layer: nn.Linear) -> None:
        """Take over a layer.

        Args:
            layer: Frozen, in main memory or on the meta device, its weight stored in any way.
        """
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        stored: Any = layer
        self.compute_dtype: torch.dtype = (
            stored.compute_dtype if is_nf4(layer) or is_int8(layer) else layer.weight.dtype
        )
        for name, buffer in layer.named_buffers():
            self.register_buffer(name, buffer)
        self.train(layer.training)

    def forward(self, input: Float[Tensor, "*lead inside"]) -> Float[Tensor, "*lead outside"]:
        """Multiply where the input lies, in the layer's compute precision."""
        bias = cast("Tensor | None", self.bias)
        if bias is not None:
            bias = bias.to(input.device)
        weight = _read(self).to(input.device)
        return functional.linear(input.to(self.compute_dtype), weight, bias)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "MainMemoryLinear":  # noqa: FBT001, FBT002 - PyTorch's
        """Stay where it is when the model moves."""
        del fn, recurse
        return self


def _read(layer: MainMemoryLinear) -> Tensor:
    if is_int8(layer):
        return read_int8(layer)
    return read_nf4(layer) if is_nf4(layer) else layer.weight.detach()
