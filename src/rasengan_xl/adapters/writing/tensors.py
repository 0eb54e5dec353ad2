"""The tensors of a change as files hold them: shaped for their layer, in a stated precision."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rasengan_xl.adapters.changes import Decomposed, LowRank
from rasengan_xl.adapters.writing.plain import Expressed
from rasengan_xl.errors import OutputError

_KEPT_IN_FLOAT32 = (".alpha", ".dora_scale", ".lora_magnitude_vector")
"""An alpha such as 22.627 must not round, and a magnitude is so near its norm that 16 bits would
lose what was learnt: both are small, and every reader takes them in any precision."""


def factors_of(change: Expressed, shape: Sequence[int]) -> LowRank:
    """Return the factors in the shapes that a layer with a weight of this shape takes."""
    factors = change.direction if isinstance(change, Decomposed) else change
    assert isinstance(factors, LowRank)
    kernel = (1,) * (len(shape) - 2)
    return replace(
        factors,
        down=factors.down.reshape(factors.rank, *shape[1:]),
        up=factors.up.reshape(shape[0], factors.rank, *kernel),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What is to be known of a layer's change without its tensors."""

    rank: int
    alpha: float
    rank_stabilized: bool
    decomposed: bool

    @property
    def unstabilized_alpha(self) -> float:
        """The alpha that gives the same scale in programs that divide it by the rank."""
        return self.alpha * math.sqrt(self.rank) if self.rank_stabilized else self.alpha


def describe(change: Expressed) -> Described:
    """Describe a change."""
    factors = change.direction if isinstance(change, Decomposed) else change
    assert isinstance(factors, LowRank)
    return Described(
        rank=factors.rank,
        alpha=float(factors.alpha),
        rank_stabilized=factors.rank_stabilized,
        decomposed=isinstance(change, Decomposed),
    )


def in_precision(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Round factors to a precision.

    Raises:
        OutputError: One is beyond what the precision holds.
    """
    rounded: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        to = torch.float32 if name.endswith(_KEPT_IN_FLOAT32) else dtype
        rounded[name] = tensor.to(to).contiguous()
        if not rounded[name].isfinite().all():
            raise OutputError(_explain(name, tensor, dtype))
    return rounded


def _explain(name: str, tensor: Tensor, dtype: torch.dtype) -> str:
    if not tensor.isfinite().all():
        return f"{name}: holds a value that is not finite; use an earlier checkpoint"
    precision = str(dtype).removeprefix("torch.")
    return (
        f"{name}: reaches {tensor.abs().max().item():.3g}, and {precision} holds "
        f"{torch.finfo(dtype).max:.3g}; export with --dtype bf16 or fp32"
    )
