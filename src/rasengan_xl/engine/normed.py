"""What projections and feed-forward layers share: the norm before them, and what they keep."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rasengan_xl.engine.projections import Projections

_aten: Any = torch.ops.aten

Gradients = tuple[Tensor | None, ...]
"""One for each argument of a function of autograd's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frugality:
    """What is computed again rather than kept."""

    norms: bool
    feed_forward: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What a function of autograd's is to compute with, beside tensors."""

    projections: Projections
    norm: nn.LayerNorm | None
    frugal: Frugality
    training: bool
    base: Tensor | None = None
    """What becomes the product; so it lives no longer for being kept here."""


@contextmanager
def in_own_precision(given: Tensor) -> Generator[None]:
    """Leave autocast, whose casts are not needed: all is in the compute precision already."""
    if given.is_meta or not torch.is_autocast_enabled(given.device.type):
        yield
        return
    with torch.autocast(given.device.type, enabled=False):
        yield


def normalise(
    rows: Tensor, norm: nn.LayerNorm | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Normalise rows; return also their means and reciprocal deviations, if there is a norm."""
    if norm is None:
        return rows, None, None
    return torch.native_layer_norm(
        rows, list(norm.normalized_shape), norm.weight, norm.bias, norm.eps
    )


def normalise_back(
    gradient: Tensor,
    rows: Tensor | None,
    mean: Tensor | None,
    deviation: Tensor | None,
    norm: nn.LayerNorm | None,
) -> Tensor:
    """Return the gradient of what `normalise` was given."""
    if norm is None:
        return gradient
    shape, only_input = list(norm.normalized_shape), [True, False, False]
    return _aten.native_layer_norm_backward(
        gradient, rows, shape, mean, deviation, norm.weight, norm.bias, only_input
    )[0]
