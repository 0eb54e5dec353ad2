"""SDXL's feed-forward layers as autograd sees them, keeping one tensor or none.

Between two projections, GEGLU's output is computed again where an adapter needs it, and its
gradient takes the place of what it is the gradient of.
"""

from typing import Any, cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function

from rasengan_xl.engine.geglu import geglu, geglu_backward_
from rasengan_xl.engine.normed import (
    Frugality,
    Gradients,
    Work,
    in_own_precision,
    normalise,
    normalise_back,
)
from rasengan_xl.engine.projecting import Projection
from rasengan_xl.engine.projections import Kept, Projections

Sequence3D = Float[Tensor, "batch token width"]


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
        work = Work(self.first, norm, self._frugal, training)
        with in_own_precision(given):
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


class _FeedForward(Function):
    @staticmethod
    def forward(
        ctx: Any, given: Tensor, anchor: Tensor | None, second: Projections, work: Work
    ) -> Tensor:
        del anchor
        first, frugal = work.projections, work.frugal
        rows = given.reshape(-1, first.inputs)
        seen, mean, deviation = normalise(rows, work.norm)
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
    def backward(ctx: Any, *grad_outputs: Tensor) -> Gradients:
        work: Work = ctx.work
        first, second, norm = work.projections, ctx.second, work.norm
        rows, mean, deviation, seen, hidden, *tensors = ctx.saved_tensors
        kept, kept_second = Kept.of(tensors[: Kept.COUNT]), Kept.of(tensors[Kept.COUNT :])
        if seen is None and (kept.low is not None or hidden is None):
            seen = normalise(rows, norm)[0]
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
            wanted = normalise_back(wanted, rows, mean, deviation, norm).view(ctx.shape)
        return wanted, None, None, None
