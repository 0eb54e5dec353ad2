"""Grouped projections and feed-forward layers as autograd sees them, each with the norm before it.

A layer norm is computed again in the backward pass where an adapter needs its output, rather
than kept (arXiv:1604.06174, section 4, on what is cheap to compute again).
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function

from rasengan_xl.engine.geglu import geglu, geglu_backward
from rasengan_xl.engine.projections import Kept, Projections

Sequence3D = Float[Tensor, "batch token width"]
Any2D = Float[Tensor, "*lead width"]

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

    def __call__(
        self, given: Any2D, norm: nn.LayerNorm | None = None, *, training: bool = False
    ) -> list[Any2D]:
        """Normalise, and multiply by the weights of all layers."""
        found: dict[int, Tensor] = {}
        for projections, places in self.groups:
            given = given.to(projections.dtype)
            with _in_own_precision(given):
                outputs = _Project.apply(
                    given, projections.anchor, projections, norm, self._frugal, training
                )
            found |= dict(zip(places, outputs, strict=True))  # pyright: ignore - untyped apply
        return [found[place] for place in range(len(found))]


class FeedForward:
    """A norm, a projection, a gated GELU (arXiv:2002.05202) and a projection, as one."""

    def __init__(self, first: Projections, second: Projections, frugal: Frugality) -> None:
        """Put two projections around a GEGLU."""
        self.first, self.second = first, second
        self._frugal = frugal

    def __call__(
        self, given: Sequence3D, norm: nn.LayerNorm, *, training: bool = False
    ) -> Sequence3D:
        """Compute all of it, keeping the first projection's output or nothing."""
        given = given.to(self.first.dtype)
        anchor = self.first.anchor if self.first.anchor is not None else self.second.anchor
        with _in_own_precision(given):
            return _FeedForward.apply(  # pyright: ignore - untyped apply
                given, anchor, self.first, self.second, norm, self._frugal, training
            )


class KeepingFeedForward:
    """The same, with all that autograd keeps by itself."""

    def __init__(self, first: Projection, second: Projection) -> None:
        """Put two projections around a GEGLU."""
        self._first, self._second = first, second

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


class _Project(Function):
    @staticmethod
    def forward(
        ctx: Any,
        given: Tensor,
        anchor: Tensor | None,
        projections: Projections,
        norm: nn.LayerNorm | None,
        frugal: Frugality,
        training: bool,  # noqa: FBT001
    ) -> tuple[Tensor, ...]:
        del anchor
        rows = given.reshape(-1, projections.inputs)
        seen, mean, deviation = _normalise(rows, norm)
        product, kept = projections.project(seen, training=training)
        needs_seen = kept.low is not None and not (frugal.norms and norm is not None)
        before = None if norm is None else rows
        ctx.save_for_backward(
            before, mean, deviation, seen if needs_seen else None, *kept.tensors()
        )
        ctx.projections, ctx.norm, ctx.shape = projections, norm, given.shape
        return product.view(*given.shape[:-1], -1).split(projections.outputs, dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        projections: Projections = ctx.projections
        before, mean, deviation, seen, *kept = ctx.saved_tensors
        needs_input = ctx.needs_input_grad[0]
        found = Kept(**dict(zip((f.name for f in fields(Kept)), kept, strict=True)))
        if seen is None and found.low is not None:
            seen = _normalise(before, ctx.norm)[0]
        rows = [gradient.reshape(-1, projections.outputs) for gradient in gradients]
        joined = rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)
        wanted = projections.back(joined, seen, found, needs_input=needs_input)
        if wanted is not None:
            wanted = _normalise_back(wanted, before, mean, deviation, ctx.norm).view(ctx.shape)
        return wanted, None, None, None, None, None


class _FeedForward(Function):
    @staticmethod
    def forward(
        ctx: Any,
        given: Tensor,
        anchor: Tensor | None,
        first: Projections,
        second: Projections,
        norm: nn.LayerNorm,
        frugal: Frugality,
        training: bool,  # noqa: FBT001
    ) -> Tensor:
        del anchor
        rows = given.reshape(-1, first.inputs)
        seen, mean, deviation = _normalise(rows, norm)
        hidden, kept_first = first.project(seen, training=training)
        product, kept_second = second.project(geglu(hidden), training=training)
        is_adapted = kept_first.low is not None
        kept_first.scaled = None  # told by the product itself, which is kept or computed again
        ctx.save_for_backward(
            rows,
            mean,
            deviation,
            seen if is_adapted and not frugal.norms else None,
            None if frugal.feed_forward else hidden,
            *kept_first.tensors(),
            *kept_second.tensors(),
        )
        ctx.of = first, second, norm
        ctx.shape = given.shape
        return product.view(*given.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        first, second, norm = ctx.of
        rows, mean, deviation, seen, hidden, *kept = ctx.saved_tensors
        names = [field.name for field in fields(Kept)]
        kept_first = Kept(**dict(zip(names, kept[: len(names)], strict=True)))
        kept_second = Kept(**dict(zip(names, kept[len(names) :], strict=True)))
        if seen is None and (kept_first.low is not None or hidden is None):
            seen = _normalise(rows, norm)[0]
        if hidden is None:
            hidden = first.again(seen, kept_first)
        else:
            kept_first.scaled = first.without_bias(hidden)
        activated = geglu(hidden) if kept_second.low is not None else None
        wanted = second.back(
            gradient.reshape(-1, second.width), activated, kept_second, needs_input=True
        )
        del activated
        wanted = geglu_backward(hidden, wanted)
        del hidden
        wanted = first.back(wanted, seen, kept_first, needs_input=ctx.needs_input_grad[0])
        if wanted is not None:
            wanted = _normalise_back(wanted, rows, mean, deviation, norm).view(ctx.shape)
        return wanted, None, None, None, None, None, None


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
