"""GroupNorm, and SiLU after it, in one: the input and two numbers a group are kept.

PyTorch keeps what enters the SiLU too.  The affine of the norm is frozen; what is added to each
channel before the norm may be trained.
"""

from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rasengan_xl.engine.kernels.availability import has_kernels, load_kernels
from rasengan_xl.engine.precision import computing_dtype

Pictures = Float[Tensor, "batch channel height width"]


class Normalized(NamedTuple):
    """Pictures after a norm, and by what they were normalized."""

    pictures: Tensor
    mean: Float[Tensor, "batch group"]
    reciprocal_deviation: Float[Tensor, "batch group"]


class FusedGroupNorm(nn.GroupNorm):
    """Takes the place of a frozen norm, and of a SiLU after it; has the norm's parameters."""

    def __init__(self, norm: nn.GroupNorm, *, activate: bool) -> None:
        super().__init__(norm.num_groups, norm.num_channels, norm.eps, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.activate = activate
        self.train(norm.training)

    def forward(self, input: Pictures) -> Pictures:
        """Normalize, and activate if this norm's SiLU is its own."""
        return fused_group_norm(input, self, activate=self.activate)


def is_frozen_norm(norm: nn.Module) -> bool:
    """Say whether a module is a plain GroupNorm of which nothing is trained."""
    if type(norm) is not nn.GroupNorm:
        return False
    affine = list(norm.parameters())
    return len(affine) == 2 and not any(parameter.requires_grad for parameter in affine)


def fused_group_norm(
    pictures: Pictures,
    norm: nn.GroupNorm,
    shift: Float[Tensor, "batch channel"] | None = None,
    *,
    activate: bool,
) -> Pictures:
    """Normalize the sum of pictures and shift; what comes out is ordered as the pictures are.

    Args:
        pictures: Ordered by channel or by place ("channels last").
        norm: A frozen one (`is_frozen_norm`).
        shift: What is added to each channel first: the time's embedding.
        activate: Whether a SiLU follows.
    """
    pictures = pictures.to(norm.weight.dtype)
    shift = None if shift is None else shift.to(norm.weight.dtype)
    trained = pictures.requires_grad or (shift is not None and shift.requires_grad)
    if torch.is_grad_enabled() and trained:
        return cast("Tensor", _FusedGroupNorm.apply(pictures, shift, _Work(norm, activate)))
    return _forward(pictures, shift, _Work(norm, activate)).pictures


class _Work(NamedTuple):
    norm: nn.GroupNorm
    activate: bool

    def sizes(self, pictures: Tensor) -> tuple[int, int, int, int]:
        """Return what PyTorch's functions ask for beside the pictures."""
        places = pictures.shape[2] * pictures.shape[3]
        return len(pictures), self.norm.num_channels, places, self.norm.num_groups


class _FusedGroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pictures: Tensor, shift: Tensor | None, work: _Work) -> Tensor:
        made = _forward(pictures, shift, work)
        ctx.save_for_backward(pictures, shift, made.mean, made.reciprocal_deviation)
        ctx.work = work
        return made.pictures

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        pictures, shift, mean, reciprocal_deviation = ctx.saved_tensors
        kept = Normalized(pictures, mean, reciprocal_deviation)
        of_pictures = _backward(gradients[0].to(pictures.dtype), kept, shift, ctx.work)
        of_shift = of_pictures.sum(dim=(2, 3)) if ctx.needs_input_grad[1] else None
        return (of_pictures if ctx.needs_input_grad[0] else None), of_shift, None


def _forward(pictures: Tensor, shift: Tensor | None, work: _Work) -> Normalized:
    if pictures.is_meta:
        wide = computing_dtype(pictures.dtype)
        statistics = pictures.new_empty(len(pictures), work.norm.num_groups, dtype=wide)
        return Normalized(torch.empty_like(pictures), statistics, torch.empty_like(statistics))
    if has_kernels(pictures):
        kernels = load_kernels("group_norm")
        dense = _dense(pictures)
        return Normalized(*kernels.forward(dense, shift, work.norm, activate=work.activate))
    made = _normalize(_add(pictures, shift), work)
    activated = F.silu(made.pictures) if work.activate else made.pictures
    return made._replace(pictures=activated.contiguous(memory_format=_order(pictures)))


def _backward(gradient: Tensor, kept: Normalized, shift: Tensor | None, work: _Work) -> Tensor:
    """Return the gradient of what was normalized; what entered the SiLU is computed again."""
    pictures = kept.pictures
    if pictures.is_meta:
        return torch.empty_like(pictures)
    if has_kernels(pictures):
        kept = kept._replace(pictures=_dense(pictures))
        gradient = gradient.contiguous(memory_format=_order(pictures))
        kernels = load_kernels("group_norm")
        return kernels.backward(gradient, kept, shift, work.norm, activate=work.activate)
    summed = _add(pictures, shift)
    order = _order_for_torch(summed)
    gradient = gradient.contiguous(memory_format=order)
    if work.activate:
        gradient = torch.ops.aten.silu_backward(gradient, _normalize(summed, work).pictures)
    of_pictures, _, _ = torch.ops.aten.native_group_norm_backward(
        gradient,
        summed.contiguous(memory_format=order),
        kept.mean,
        kept.reciprocal_deviation,
        work.norm.weight,
        *work.sizes(summed),
        [True, False, False],
    )
    return of_pictures.contiguous(memory_format=_order(pictures))


def _add(pictures: Tensor, shift: Tensor | None) -> Tensor:
    return pictures if shift is None else pictures + shift[:, :, None, None]


def _normalize(pictures: Tensor, work: _Work) -> Normalized:
    ordered = pictures.contiguous(memory_format=_order_for_torch(pictures))
    norm = work.norm
    made = torch.native_group_norm(ordered, norm.weight, norm.bias, *work.sizes(pictures), norm.eps)
    return Normalized(*made)


def _order(pictures: Tensor) -> torch.memory_format:
    """Return by what pictures are ordered: by channel unless by place alone."""
    if pictures.is_contiguous():
        return torch.contiguous_format
    by_place = pictures.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if by_place else torch.contiguous_format


def _order_for_torch(pictures: Tensor) -> torch.memory_format:
    """Return the order in which PyTorch's GroupNorm reads: on a GPU by channel alone."""
    return torch.contiguous_format if pictures.is_cuda else _order(pictures)


def _dense(pictures: Tensor) -> Tensor:
    """Return pictures that lie in one of the two orders, copied if in neither."""
    return pictures.contiguous(memory_format=_order(pictures))
