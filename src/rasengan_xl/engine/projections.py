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
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rasengan_xl.engine.flat_adapter import FlatAdapter, LowRank
from rasengan_xl.engine.frozen_group import FrozenGroup, Given, Product
from rasengan_xl.engine.gain import apply_gain_, gain_backward


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
        self.frozen = FrozenGroup(layers, as_integers=as_integers)
        self.layers = self.frozen.layers
        self.outputs, self.inputs = self.frozen.outputs, self.frozen.inputs
        self.dtype = self.frozen.dtype
        self._adapter = adapter
        self.low_rank: LowRank | None = adapter.group(names) if adapter else None

    @property
    def width(self) -> int:
        """How many numbers the outputs of all layers are together."""
        return self.frozen.width

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
            return self.frozen.product(given, training=training), Kept()
        if not self.is_adapted:
            return self.frozen.product_apart(given), Kept()
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
            return self.frozen.product(given, training=training)
        if kept.low is None:
            return self.frozen.product_apart(given)
        product = self.frozen.product(given, training=training) if base is None else base
        self._add_low_rank(product, kept.low, low_rank)
        if low_rank.gain is not None:
            shift = None if self.frozen.bias is None else low_rank.shift
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
            return self.frozen.input_gradient(gradient, training=training) if needs_input else None
        assert given is not None
        if low_rank.gain is not None:
            assert kept.product is not None
            assert low_rank.magnitude_gradient is not None
            assert low_rank.norm is not None
            gradient, sums = gain_backward(gradient, kept.product, low_rank.gain, self.frozen.bias)
            low_rank.magnitude_gradient.addcdiv_(sums, low_rank.norm)
        turned = self._add_factor_gradients(gradient, given, kept, low_rank)
        if not needs_input:
            return None
        wanted = self.frozen.input_gradient(gradient, training=training)
        down = low_rank.stacked_down
        if kept.mask is None:
            return torch.addmm(wanted, turned, down, out=wanted)
        return wanted.add_((turned @ down).mul_(kept.mask).mul_(1 / (1 - low_rank.dropout)))

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

    def _by_layer(
        self, rows: Float[Tensor, "token layer_width"]
    ) -> Float[Tensor, "layer token width"]:
        return rows.view(len(rows), len(self.layers), -1).transpose(0, 1)
