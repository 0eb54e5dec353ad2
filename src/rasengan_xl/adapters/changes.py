"""What an adapter does to the weight of one layer, as formulas.

Every trainer's files come down to these.  Arithmetic is in float32, or in a weight's own
float64, on the device of the weight.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rasengan_xl.config.base_precisions import Precision, Store
from rasengan_xl.engine.weights import compute_dtype
from rasengan_xl.sdxl.stores import round_as, store_of

Weight = Float[Tensor, "out in *kernel"]
"""Of a linear layer, or of a convolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """LoRA (arXiv:2106.09685, section 4.1); of a convolution also with a core, as LoCon."""

    down: Float[Tensor, "rank in *width"]
    up: Float[Tensor, "out rank *ones"]
    mid: Float[Tensor, "rank rank *kernel"] | None = None
    """Core of a Tucker decomposition; `down` then has no kernel (arXiv:2309.14859, section 3)."""
    alpha: float
    rank_stabilized: bool = False
    """Scaled by alpha / sqrt(rank) instead of alpha / rank (arXiv:2312.03732)."""

    @property
    def rank(self) -> int:
        """Most that the rank of the change can be."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)

    def difference(self, shape: torch.Size, device: torch.device) -> Weight:
        """Work out the weight change, for a weight of this shape."""
        down, up = (_as_float(t, device).flatten(1) for t in (self.down, self.up))
        if self.mid is None:
            return self.scale * (up @ down).reshape(shape)
        mid = _as_float(self.mid, device)
        return self.scale * torch.einsum("or,rs...,si->oi...", up, mid, down)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hadamard:
    """LoHa: the elementwise product of two low-rank products (arXiv:2108.06098, section 2.2)."""

    first: tuple[Tensor, Tensor]
    """A (out x rank) and B (rank x in * kernel)."""
    second: tuple[Tensor, Tensor]
    cores: tuple[Tensor, Tensor] | None = None
    """rank x rank x kernel, if the kernel of a convolution is kept apart; factors are then
    rank x out and rank x in."""
    alpha: float

    @property
    def rank(self) -> int:
        """Of each of both products; that of the change can be its square."""
        return self.first[1].shape[0]

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return self.alpha / self.rank

    def difference(self, shape: torch.Size, device: torch.device) -> Weight:
        """Work out the weight change, for a weight of this shape."""
        products: list[Tensor] = []
        for (a, b), core in zip((self.first, self.second), self.cores or (None, None), strict=True):
            a, b = _as_float(a, device), _as_float(b, device)  # noqa: PLW2901
            products.append(a @ b if core is None else _tucker(_as_float(core, device), a, b))
        return self.scale * (products[0] * products[1]).reshape(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kronecker:
    """LoKr: a Kronecker product, each factor whole or a low-rank product (arXiv:2309.14859)."""

    first: tuple[Tensor, ...]
    """One matrix, or the two whose product it is."""
    second: tuple[Tensor, ...]
    core: Tensor | None = None
    """rank x rank x kernel, if the second factor keeps the kernel of a convolution apart."""
    alpha: float

    @property
    def rank(self) -> int | None:
        """Inner width of the factor that is a product; None if neither is."""
        for factor in (self.second, self.first):
            if len(factor) == 2:
                return factor[1].shape[0]
        return None

    @property
    def scale(self) -> float:
        """What the product is multiplied by: 1 if there is no rank to divide alpha by."""
        return 1.0 if self.rank is None else self.alpha / self.rank

    def difference(self, shape: torch.Size, device: torch.device) -> Weight:
        """Work out the weight change, for a weight of this shape."""
        first = _product([_as_float(t, device) for t in self.first])
        factors = [_as_float(t, device) for t in self.second]
        if self.core is None:
            second = _product(factors)
        else:
            second = _tucker(_as_float(self.core, device), *factors)
        first = first.reshape(*first.shape, *(1,) * (second.dim() - 2))
        return self.scale * torch.kron(first, second.contiguous()).reshape(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A weight change that is written out."""

    change: Weight

    @property
    def rank(self) -> None:
        """No less than full."""
        return

    @property
    def scale(self) -> float:
        """It stands for itself."""
        return 1.0

    def difference(self, shape: torch.Size, device: torch.device) -> Weight:
        """Return the weight change, for a weight of this shape."""
        return _as_float(self.change, device).reshape(shape)


Difference = LowRank | Hadamard | Kronecker | Dense
"""A weight change that does not depend on the weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposed:
    """DoRA (arXiv:2402.09353, equation 5): magnitude m apart from the direction W + D.

    Programs differ in the axis of the norm, and in whether it is taken of W + D or of W alone.
    """

    direction: Difference
    magnitude: Float[Tensor, "*channel"]
    """One number for each, in whatever shape the file has them."""
    axis: Literal["output", "input"] = "output"
    """Whether each row of the weight, or each column, has its own magnitude."""
    norm_of: Literal["changed", "base"] = "changed"
    epsilon: float = 0.0
    """Added to the norm."""
    stored: Store = "compute"
    """How the weight was stored, of which the norm was taken: m over the norm, which was trained,
    stays the same on a weight that is stored otherwise."""
    precision: Precision = "float32"
    """That such a weight had when it was stored, and is read back in; of `compute` it tells
    nothing."""

    @property
    def rank(self) -> int | None:
        """Of the direction's change."""
        return self.direction.rank

    @property
    def scale(self) -> float:
        """Of the direction's change."""
        return self.direction.scale

    def gain(self, weight: Weight) -> Float[Tensor, "..."]:
        """Return m over the norm, in a shape that multiplies the weight.

        Args:
            weight: Of the base as it lies on the disk; `on_layer` is for one that was rounded.
        """
        weight = _in_full(weight)
        if self.stored != "compute":
            dtype: torch.dtype = getattr(torch, self.precision)
            weight = round_as(self.stored, weight, dtype).to(weight.dtype)
        if self.norm_of == "changed":
            weight = weight + self.direction.difference(weight.shape, weight.device)
        kept = 0 if self.axis == "output" else 1
        others = [axis for axis in range(weight.dim()) if axis != kept]
        norm: Tensor = cast("Any", torch.linalg).vector_norm(weight, dim=others, keepdim=True)
        norm = norm + self.epsilon
        return _as_float(self.magnitude, weight.device).reshape(norm.shape) / norm


Change = Difference | Decomposed


def on_layer(change: Change, layer: nn.Module) -> Change:
    """Return a change for the weight that a layer has, once rounded like the one it was made on."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    here = (store_of(layer), str(compute_dtype(layer)).removeprefix("torch."))
    if isinstance(change, Decomposed) and (change.stored, change.precision) == here:
        return of_compute(change)
    return change


def of_compute(change: Decomposed) -> Decomposed:
    """Return a change whose norm is taken of the weight as it is."""
    return replace(change, stored="compute", precision="float32")


def changed_weight(change: Change, weight: Weight) -> Weight:
    """Return a layer's weight with the change at full strength."""
    weight = _in_full(weight)
    difference = change.direction if isinstance(change, Decomposed) else change
    changed = weight + difference.difference(weight.shape, weight.device)
    return change.gain(weight) * changed if isinstance(change, Decomposed) else changed


def weight_change(change: Change, weight: Weight) -> Weight:
    """Return by how much a change at full strength moves a layer's weight."""
    if isinstance(change, Decomposed):
        return changed_weight(change, weight) - _in_full(weight)
    return change.difference(weight.shape, weight.device)


def tensors_of(change: Change) -> Iterator[Tensor]:
    """Yield what a change consists of, in the precision in which it was stored."""
    for field in fields(change):
        value = getattr(change, field.name)
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from value
        elif isinstance(value, LowRank | Hadamard | Kronecker | Dense):
            yield from tensors_of(value)


def _in_full(weight: Weight) -> Weight:
    """Return a weight in float32; one in float64 stays, for who compares small changes of it."""
    return weight if weight.dtype == torch.float64 else weight.float()


def _as_float(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, torch.float32)


def _product(factors: list[Tensor]) -> Tensor:
    """Return the one matrix, or the product of two; a kernel stays where it is."""
    if len(factors) == 1:
        return factors[0]
    left, right = factors
    return (left @ right.flatten(1)).reshape(left.shape[0], *right.shape[1:])


def _tucker(core: Tensor, out: Tensor, into: Tensor) -> Tensor:
    return torch.einsum("rs...,ro,si->oi...", core, out, into)
