"""Grouped projections as autograd sees them, each with the norm before it.

A layer norm is computed again in the backward pass where an adapter needs its output, rather
than kept (arXiv:1604.06174, section 4, on what is cheap to compute again).
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function

from rasengan_xl.engine.normed import (
    Frugality,
    Gradients,
    Work,
    in_own_precision,
    normalise,
    normalise_back,
)
from rasengan_xl.engine.projections import Kept, Projections

Given = Float[Tensor, "*lead input"]
Output = Float[Tensor, "*lead output"]
Joined = Float[Tensor, "*lead layer_output"]


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
            with in_own_precision(given):
                work = Work(projections, norm, self._frugal, training, base)
                outputs = cast("_Outputs", _Project.apply(given, projections.anchor, work))
            found |= dict(zip(places, outputs, strict=True))
        return [found[place] for place in range(len(found))]


_Outputs = tuple[Tensor, ...]


class _Project(Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, anchor: Tensor | None, work: Work) -> _Outputs:
        del anchor
        projections, norm = work.projections, work.norm
        rows = given.reshape(-1, projections.inputs)
        seen, mean, deviation = normalise(rows, norm)
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
    def backward(ctx: Any, *grad_outputs: Tensor) -> Gradients:
        work: Work = ctx.work
        projections = work.projections
        before, mean, deviation, seen, *tensors = ctx.saved_tensors
        kept = Kept.of(tensors)
        if seen is None and kept.low is not None:
            seen = normalise(before, work.norm)[0]
        rows = [gradient.reshape(-1, projections.outputs) for gradient in grad_outputs]
        joined = rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)
        wanted = projections.back(
            joined, seen, kept, needs_input=ctx.needs_input_grad[0], training=work.training
        )
        if wanted is not None:
            wanted = normalise_back(wanted, before, mean, deviation, work.norm).view(ctx.shape)
        return wanted, None, None
