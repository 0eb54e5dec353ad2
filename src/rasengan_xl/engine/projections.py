"""Groups of frozen linear layers that share an input, with the low-rank adapters on them.

A product is y = g (x W^T + s (x A^T) B^T) + b: LoRA (arXiv:2106.09685, eq. 3) where g is 1, DoRA
(arXiv:2402.09353, eq. 5) where g = m / ||W + s B A||, the norm taken as a constant (section 4.3).
Its backward pass is written out: with z = g dy,

    t = s z B,  dB += s z^T (x A^T),  dA += t^T x,  dx = z W + t A,
    dm += sum(dy (y - b) / g) / norm.

So a group of any number of layers takes three matrix products forward and five backward, and
keeps its input and x A^T.  The functions here know nothing of autograd.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rasengan_xl.engine.flat_adapter import FlatAdapter, LowRank
from rasengan_xl.engine.gain import apply_gain_, gain_backward
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


@dataclass(slots=True, kw_only=True)
class Kept:
    """What a product keeps for its backward pass, beside its input."""

    low: Float[Tensor, "token layer_rank"] | None = None
    """x A^T."""
    product: Product | None = None
    """What came out, under DoRA."""
    mask: Tensor | None = None
    """Where dropout let the adapter see its input."""

    COUNT: ClassVar = 3

    def tensors(self) -> tuple[Tensor | None, ...]:
        """Return all of it."""
        return self.low, self.product, self.mask

    @classmethod
    def of(cls, tensors: Sequence[Tensor | None]) -> "Kept":
        """Take back what `tensors` returned."""
        low, product, mask = tensors
        return cls(low=low, product=product, mask=mask)


class Projections:
    """Frozen linear layers of one shape that share their input, as one product."""

    def __init__(
        self,
        layers: Sequence[nn.Linear],
        adapter: FlatAdapter | None,
        names: Sequence[str],
        *,
        as_integers: bool = False,
    ) -> None:
        """Group layers.

        Args:
            layers: Of one shape; those stored plainly come to share their memory.
            adapter: Where the layers' adapters lie; None: they have none.
            names: Of the layers in the UNet.
            as_integers: While training, multiply weights in int8 as integers.
        """
        self.layers = tuple(layers)
        self.outputs = layers[0].out_features
        self.inputs = layers[0].in_features
        self.dtype = compute_dtype(layers[0])
        self._adapter = adapter
        self.low_rank: LowRank | None = adapter.group(names) if adapter else None
        self._is_held_back = isinstance(layers[0], MainMemoryLinear)
        is_whole = all(map(is_plain, layers)) and not self._is_held_back
        self._joined = _join(self.layers) if is_whole else None
        self._bias = _join_bias(self.layers)
        is_used = as_integers and not self._is_held_back
        self._integers = join_integers(self.layers) if is_used else None

    @property
    def width(self) -> int:
        """How many numbers the outputs of all layers are together."""
        return self.outputs * len(self.layers)

    @property
    def is_adapted(self) -> bool:
        """Whether the adapter has a part in the product just now."""
        return self._adapter is not None and self._adapter.enabled

    @property
    def is_decomposed(self) -> bool:
        """Whether the adapter has magnitudes of its own: DoRA."""
        return self.low_rank is not None and self.low_rank.gain is not None

    @property
    def draws_by_chance(self) -> bool:
        """Whether the adapter's dropout is at work while training."""
        return self.low_rank is not None and self.low_rank.dropout > 0

    @property
    def anchor(self) -> Tensor | None:
        """What makes autograd call backward, though the input may depend on nothing."""
        return self._adapter.anchor if self._adapter is not None and self.is_adapted else None

    def project(
        self, given: Given, *, base: Product | None = None, training: bool = False
    ) -> tuple[Product, Kept]:
        """Multiply rows by the weights of all layers.

        Args:
            given: float[token, inputs].
            base: Product of the frozen weights, if it is known; it is changed.
            training: Whether dropout is at work, and integers may be.

        Returns:
            float[token, layers x outputs], and what `back` needs.
        """
        low_rank = self.low_rank
        if base is not None and not self.is_adapted:
            return base, Kept()
        if low_rank is None:
            return self._base(given, training=training), Kept()
        if not self.is_adapted:
            return self._base_apart(given), Kept()
        kept, seen = Kept(), given
        if training and low_rank.dropout:
            seen, kept.mask = torch.native_dropout(given, low_rank.dropout, True)  # noqa: FBT003
        kept.low = seen @ low_rank.stacked_down.T
        return self.again(given, kept, base=base, training=training), kept

    def again(
        self, given: Given, kept: Kept, *, base: Product | None = None, training: bool = False
    ) -> Product:
        """Compute the product from what was given and kept.

        The bias is no part of what the gain scales.  It is added first, and taken back by what
        the gain makes of it: so a gain of 1 leaves the base's own product, to the bit.
        """
        low_rank = self.low_rank
        if low_rank is None:
            return self._base(given, training=training)
        if kept.low is None:
            return self._base_apart(given)
        product = self._base(given, training=training) if base is None else base
        self._add_low_rank(product, kept.low, low_rank)
        if low_rank.gain is not None:
            shift = None if self._bias is None else low_rank.shift
            apply_gain_(product, low_rank.gain, shift)
            kept.product = product
        return product

    def back(
        self,
        gradient: Product,
        given: Given | None,
        kept: Kept,
        *,
        needs_input: bool,
        training: bool = False,
    ) -> Given | None:
        """Add to the adapters' gradients, and return that of the input.

        Args:
            gradient: Of the product.
            given: What `project` was given; not needed without an adapter.
            kept: What it returned.
            needs_input: Whether the input depends on something that is trained.
            training: As `project` was told.
        """
        low_rank = self.low_rank
        if low_rank is None or kept.low is None:
            return self._base_back(gradient, training=training) if needs_input else None
        assert given is not None
        if low_rank.gain is not None:
            assert kept.product is not None
            assert low_rank.magnitude_gradient is not None
            assert low_rank.norm is not None
            gradient, sums = gain_backward(gradient, kept.product, low_rank.gain, self._bias)
            low_rank.magnitude_gradient.addcdiv_(sums, low_rank.norm)
        turned = self._add_factor_gradients(gradient, given, kept, low_rank)
        if not needs_input:
            return None
        wanted = self._base_back(gradient, training=training)
        down = low_rank.stacked_down
        if kept.mask is None:
            return torch.addmm(wanted, turned, down, out=wanted)
        return wanted.add_((turned @ down).mul_(kept.mask).mul_(1 / (1 - low_rank.dropout)))

    def cross(self, down: Float[Tensor, "layer rank input"]) -> Float[Tensor, "layer rank output"]:
        """Return A W^T of each layer, which DoRA's norm is made of."""
        if self._joined is not None:
            weights = self._joined.view(len(self.layers), self.outputs, self.inputs)
            return torch.bmm(down, weights.transpose(1, 2))
        return torch.stack(
            [a @ read_briefly(layer).T for a, layer in zip(down, self.layers, strict=True)]
        )

    def _base(self, given: Given, *, training: bool) -> Product:
        if training and self._integers is not None and has_work(given):
            return integer_product(given, self._integers, self._bias)
        if self._is_held_back:
            return self._base_apart(given)
        if self._joined is not None:
            return _multiply(given, self._joined, self._bias)
        product = given.new_empty(len(given), self.width)
        for layer, part in zip(self.layers, self._parts(product), strict=True):
            _multiply(given, read_briefly(layer), layer.bias, out=part)
        return product

    def _base_apart(self, given: Given) -> Product:
        """Compute as the layers would by themselves, to the bit."""
        outputs = [_multiply_alone(given, layer) for layer in self.layers]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def _base_back(self, gradient: Product, *, training: bool) -> Given:
        if training and self._integers is not None and has_work(gradient):
            return integer_input_gradient(gradient, self._integers)
        if self._joined is not None:
            return gradient @ self._joined
        first, *others = zip(self.layers, self._parts(gradient), strict=True)
        wanted = first[1] @ read_briefly(first[0])
        for layer, part in others:
            torch.addmm(wanted, part, read_briefly(layer), out=wanted)
        return wanted

    def _add_low_rank(self, product: Product, low: Tensor, low_rank: LowRank) -> None:
        if len(self.layers) == 1:
            torch.addmm(product, low, low_rank.up[0].T, alpha=low_rank.scale, out=product)
            return
        by_layer, up = self._by_layer(product), low_rank.up.transpose(1, 2)
        torch.baddbmm(by_layer, self._by_layer(low), up, alpha=low_rank.scale, out=by_layer)

    def _add_factor_gradients(
        self, gradient: Product, given: Given, kept: Kept, low_rank: LowRank
    ) -> Float[Tensor, "token layer_rank"]:
        """Add to the gradients of A and B; return t."""
        assert kept.low is not None
        turned = torch.empty_like(kept.low)
        scale, (down_gradient, up_gradient) = low_rank.scale, low_rank.gradients()
        if len(self.layers) == 1:
            torch.addmm(turned, gradient, low_rank.up[0], beta=0, alpha=scale, out=turned)
            one = up_gradient[0]
            torch.addmm(one, gradient.T, kept.low, alpha=scale, out=one)
        else:
            by_layer, rows = self._by_layer(gradient), self._by_layer(turned)
            torch.baddbmm(rows, by_layer, low_rank.up, beta=0, alpha=scale, out=rows)
            low = self._by_layer(kept.low)
            torch.baddbmm(up_gradient, by_layer.transpose(1, 2), low, alpha=scale, out=up_gradient)
        if kept.mask is not None:
            given = given * kept.mask * (1 / (1 - low_rank.dropout))
        down_gradient = down_gradient.flatten(0, 1)
        torch.addmm(down_gradient, turned.T, given, out=down_gradient)
        return turned

    def _parts(self, product: Product) -> tuple[Tensor, ...]:
        return cast("tuple[Tensor, ...]", product.split(self.outputs, dim=1))

    def _by_layer(
        self, rows: Float[Tensor, "token layer_width"]
    ) -> Float[Tensor, "layer token width"]:
        return rows.view(len(rows), len(self.layers), -1).transpose(0, 1)


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
