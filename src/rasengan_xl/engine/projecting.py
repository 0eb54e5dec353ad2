"""Grouped projections and feed-forward layers as autograd sees them, each with the norm before it.

A layer norm is computed again in the backward pass where an adapter needs its output, rather
than kept (arXiv:1604.06174, section 4, on what is cheap to compute again).
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function

from rasengan_xl.engine.geglu import geglu, geglu_backward_
from rasengan_xl.engine.projections import Kept, Projections

Sequence3D = Float[Tensor, "batch token width"]
Given = Float[Tensor, "*lead input"]
Output = Float[Tensor, "*lead output"]
Joined = Float[Tensor, "*lead layer_output"]

_aten: Any = torch.ops.aten


@dataclass(frozen=True, slots=True, kw_only=True)
class Frugality:
    """What is computed again rather than kept."""

    norms: bool
    feed_forward: bool = False


class Projection:
    """Linear layers that share an input, in the order in which their outputs are wanted."""

    def __init__(self, groups: Sequence[tuple[Projections, Sequence[int]]], frugal: Frugality):
        """Put groups side by side.

        Args:
            groups: Each with the places of its outputs in the order wanted.
            frugal: What is not kept.
        """
        self.groups = tuple(groups)
        self._frugal = frugal

    @property
    def draws_by_chance(self) -> bool:
        """Whether the adapter's dropout is at work while training."""
        return any(projections.draws_by_chance for projections, _ in self.groups)

    def __call__(
        self,
        given: Given,
        norm: nn.LayerNorm | None = None,
        *,
        base: Joined | None = None,
        training: bool = False,
    ) -> list[Output]:
        """Normalise, and multiply by the weights of all layers.

        Args:
            given: Their input.
            norm: Before them.
            base: Product of the frozen weights of the one group there is, if it is known; it is
                changed.
            training: Whether dropout is at work, and integers may be.
        """
        assert base is None or len(self.groups) == 1
        found: dict[int, Tensor] = {}
        for projections, places in self.groups:
            given = given.to(projections.dtype)
            with _in_own_precision(given):
                work = _Work(projections, norm, self._frugal, training, base)
                outputs = cast("_Outputs", _Project.apply(given, projections.anchor, work))
            found |= dict(zip(places, outputs, strict=True))
        return [found[place] for place in range(len(found))]


class FeedForward:
    """A norm, a projection, a gated GELU (arXiv:2002.05202) and a projection, as one."""

    def __init__(self, first: Projections, second: Projections, frugal: Frugality) -> None:
        """Put two projections around a GEGLU."""
        self.first, self.second = first, second
        self._frugal = frugal

    @property
    def draws_by_chance(self) -> bool:
        """Whether the adapter's dropout is at work while training."""
        return self.first.draws_by_chance or self.second.draws_by_chance

    def __call__(
        self, given: Sequence3D, norm: nn.LayerNorm, *, training: bool = False
    ) -> Sequence3D:
        """Compute all of it, keeping the first projection's output or nothing."""
        given = given.to(self.first.dtype)
        anchor = self.first.anchor if self.first.anchor is not None else self.second.anchor
        work = _Work(self.first, norm, self._frugal, training)
        with _in_own_precision(given):
            return cast("Tensor", _FeedForward.apply(given, anchor, self.second, work))


class KeepingFeedForward:
    """The same, with all that autograd keeps by itself."""

    def __init__(self, first: Projection, second: Projection) -> None:
        """Put two projections around a GEGLU."""
        self._first, self._second = first, second

    @property
    def draws_by_chance(self) -> bool:
        """Whether the adapter's dropout is at work while training."""
        return self._first.draws_by_chance or self._second.draws_by_chance

    def __call__(
        self, given: Sequence3D, norm: nn.LayerNorm, *, training: bool = False
    ) -> Sequence3D:
        """Compute all of it, one after the other."""
        (hidden,) = self._first(given, norm, training=training)
        value, gate = hidden.chunk(2, dim=-1)
        return self._second(value * nn.functional.gelu(gate), training=training)[0]


@contextmanager
def _in_own_precision(given: Tensor) -> Generator[None]:
    """Leave autocast, whose casts are not needed: all is in the compute precision already."""
    if given.is_meta or not torch.is_autocast_enabled(given.device.type):
        yield
        return
    with torch.autocast(given.device.type, enabled=False):
        yield


_Outputs = tuple[Tensor, ...]
_Gradients = tuple[Tensor | None, ...]


@dataclass(frozen=True, slots=True)
class _Work:
    """What a function of autograd's is to compute with, beside tensors."""

    projections: Projections
    norm: nn.LayerNorm | None
    frugal: Frugality
    training: bool
    base: Tensor | None = None
    """What becomes the product; so it lives no longer for being kept here."""


class _Project(Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, anchor: Tensor | None, work: _Work) -> _Outputs:
        del anchor
        projections, norm = work.projections, work.norm
        rows = given.reshape(-1, projections.inputs)
        seen, mean, deviation = _normalise(rows, norm)
        base = None if work.base is None else work.base.view(-1, projections.width)
        product, kept = projections.project(seen, base=base, training=work.training)
        needs_seen = kept.low is not None and not (work.frugal.norms and norm is not None)
        before = None if norm is None else rows
        ctx.save_for_backward(
            before, mean, deviation, seen if needs_seen else None, *kept.tensors()
        )
        ctx.work, ctx.shape = work, given.shape
        shaped = product.view(*given.shape[:-1], -1)
        return cast("_Outputs", shaped.split(projections.outputs, dim=-1))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> _Gradients:
        work: _Work = ctx.work
        projections = work.projections
        before, mean, deviation, seen, *tensors = ctx.saved_tensors
        kept = Kept.of(tensors)
        if seen is None and kept.low is not None:
            seen = _normalise(before, work.norm)[0]
        rows = [gradient.reshape(-1, projections.outputs) for gradient in grad_outputs]
        joined = rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)
        wanted = projections.back(
            joined, seen, kept, needs_input=ctx.needs_input_grad[0], training=work.training
        )
        if wanted is not None:
            wanted = _normalise_back(wanted, before, mean, deviation, work.norm).view(ctx.shape)
        return wanted, None, None


class _FeedForward(Function):
    @staticmethod
    def forward(
        ctx: Any, given: Tensor, anchor: Tensor | None, second: Projections, work: _Work
    ) -> Tensor:
        del anchor
        first, frugal = work.projections, work.frugal
        rows = given.reshape(-1, first.inputs)
        seen, mean, deviation = _normalise(rows, work.norm)
        hidden, kept = first.project(seen, training=work.training)
        product, kept_second = second.project(geglu(hidden), training=work.training)
        kept.product = None  # it is `hidden`, which is kept or computed again
        ctx.save_for_backward(
            rows,
            mean,
            deviation,
            seen if kept.low is not None and not frugal.norms else None,
            None if frugal.feed_forward else hidden,
            *kept.tensors(),
            *kept_second.tensors(),
        )
        ctx.work, ctx.second, ctx.shape = work, second, given.shape
        return product.view(*given.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> _Gradients:
        work: _Work = ctx.work
        first, second, norm = work.projections, ctx.second, work.norm
        rows, mean, deviation, seen, hidden, *tensors = ctx.saved_tensors
        kept, kept_second = Kept.of(tensors[: Kept.COUNT]), Kept.of(tensors[Kept.COUNT :])
        if seen is None and (kept.low is not None or hidden is None):
            seen = _normalise(rows, norm)[0]
        if hidden is None:
            hidden = first.again(cast("Tensor", seen), kept, training=work.training)
        else:
            kept.product = hidden if first.is_decomposed else None
        activated = geglu(hidden) if kept_second.low is not None else None
        gradient = grad_outputs[0].reshape(-1, second.width)
        wanted = second.back(
            gradient, activated, kept_second, needs_input=True, training=work.training
        )
        del activated
        if kept.product is not None:
            hidden = hidden.clone()  # DoRA's magnitudes need it once more
        wanted = geglu_backward_(hidden, wanted)
        del hidden
        wanted = first.back(
            wanted, seen, kept, needs_input=ctx.needs_input_grad[0], training=work.training
        )
        if wanted is not None:
            wanted = _normalise_back(wanted, rows, mean, deviation, norm).view(ctx.shape)
        return wanted, None, None, None


def _normalise(
    rows: Tensor, norm: nn.LayerNorm | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    if norm is None:
        return rows, None, None
    return torch.native_layer_norm(
        rows, list(norm.normalized_shape), norm.weight, norm.bias, norm.eps
    )


def _normalise_back(
    gradient: Tensor,
    rows: Tensor | None,
    mean: Tensor | None,
    deviation: Tensor | None,
    norm: nn.LayerNorm | None,
) -> Tensor:
    if norm is None:
        return gradient
    shape, only_input = list(norm.normalized_shape), [True, False, False]
    return _aten.native_layer_norm_backward(
        gradient, rows, shape, mean, deviation, norm.weight, norm.bias, only_input
    )[0]
