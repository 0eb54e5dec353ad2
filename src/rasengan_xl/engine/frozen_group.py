"""The frozen weights of linear layers that share an input, however they are stored."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rasengan_xl.engine.integer_products import (
    has_work,
    integer_input_gradient,
    integer_product,
    join_integers,
)
from rasengan_xl.engine.weights import compute_dtype, is_plain, read_briefly
from rasengan_xl.sdxl.main_memory import MainMemoryLinear

Given = Float[Tensor, "token input"]
Product = Float[Tensor, "token output"]


class FrozenGroup:
    """Multiplies by the weights of layers of one shape, and back; knows of no adapter."""

    def __init__(self, layers: Sequence[nn.Linear], *, as_integers: bool) -> None:
        """Group layers.

        Args:
            layers: Of one shape; those stored plainly come to share their memory.
            as_integers: While training, multiply weights in int8 as integers.
        """
        self.layers = tuple(layers)
        self.outputs = layers[0].out_features
        self.inputs = layers[0].in_features
        self.dtype = compute_dtype(layers[0])
        self._is_held_back = isinstance(layers[0], MainMemoryLinear)
        is_whole = all(map(is_plain, layers)) and not self._is_held_back
        self._joined = _join(self.layers) if is_whole else None
        self.bias = _join_bias(self.layers)
        is_used = as_integers and not self._is_held_back
        self._integers = join_integers(self.layers) if is_used else None

    @property
    def width(self) -> int:
        """How many numbers the outputs of all layers are together."""
        return self.outputs * len(self.layers)

    def cross(self, down: Float[Tensor, "layer rank input"]) -> Float[Tensor, "layer rank output"]:
        """Return A W^T of each layer, which DoRA's norm is made of."""
        if self._joined is not None:
            weights = self._joined.view(len(self.layers), self.outputs, self.inputs)
            return torch.bmm(down, weights.transpose(1, 2))
        return torch.stack(
            [a @ read_briefly(layer).T for a, layer in zip(down, self.layers, strict=True)]
        )

    def product(self, given: Given, *, training: bool) -> Product:
        """Multiply rows by all weights at once; while training as integers, if so asked."""
        if training and self._integers is not None and has_work(given):
            return integer_product(given, self._integers, self.bias)
        if self._is_held_back:
            return self.product_apart(given)
        if self._joined is not None:
            return _multiply(given, self._joined, self.bias)
        product = given.new_empty(len(given), self.width)
        for layer, part in zip(self.layers, self._parts(product), strict=True):
            _multiply(given, read_briefly(layer), layer.bias, out=part)
        return product

    def product_apart(self, given: Given) -> Product:
        """Compute as the layers would by themselves, to the bit."""
        outputs = [_multiply_alone(given, layer) for layer in self.layers]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def input_gradient(self, gradient: Product, *, training: bool) -> Given:
        """Return the gradient of the input from that of the product."""
        if training and self._integers is not None and has_work(gradient):
            return integer_input_gradient(gradient, self._integers)
        if self._joined is not None:
            return gradient @ self._joined
        first, *others = zip(self.layers, self._parts(gradient), strict=True)
        wanted = first[1] @ read_briefly(first[0])
        for layer, part in others:
            torch.addmm(wanted, part, read_briefly(layer), out=wanted)
        return wanted

    def _parts(self, product: Product) -> tuple[Tensor, ...]:
        return cast("tuple[Tensor, ...]", product.split(self.outputs, dim=1))


def _multiply(
    given: Given, weight: Tensor, bias: Tensor | None, out: Product | None = None
) -> Product:
    if bias is None:
        return torch.mm(given, weight.T, out=out)
    return torch.addmm(bias, given, weight.T, out=out)


def _multiply_alone(given: Given, layer: nn.Linear) -> Product:
    if isinstance(layer, MainMemoryLinear):
        return layer(given)
    return nn.functional.linear(given, read_briefly(layer), layer.bias)


def _join(layers: tuple[nn.Linear, ...]) -> Tensor:
    """Lay the weights of layers behind one another; each layer keeps its own as a view."""
    if len(layers) == 1:
        return layers[0].weight.detach()
    joined = torch.cat([layer.weight.detach() for layer in layers])
    parts = cast("tuple[Tensor, ...]", joined.split(layers[0].out_features))
    for layer, part in zip(layers, parts, strict=True):
        layer.weight.data = part
    return joined


def _join_bias(layers: tuple[nn.Linear, ...]) -> Tensor | None:
    biases: list[Tensor | None] = [layer.bias for layer in layers]
    own = [bias.detach() for bias in biases if bias is not None]
    if not own:
        return None
    assert len(own) == len(biases)
    return own[0] if len(own) == 1 else torch.cat(own)
