"""Bring a combination of adapters to a rank, and know what that leaves out."""

from collections.abc import Generator
from dataclasses import dataclass, replace

from rasengan_xl.adapters.base import Base
from rasengan_xl.adapters.changes import Change, Decomposed, LowRank, weight_change
from rasengan_xl.adapters.combining.combine import CombinedChanges
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.low_rank import (
    Limits,
    frobenius_norm,
    nearest_low_rank,
    relative_distance,
    shrink,
    without_core,
)
from rasengan_xl.adapters.writing.conversion import Approximated
from rasengan_xl.runs.records import StageProgress

STAGE = "combine layers"
RESIDUAL_WITHOUT_RANKS = 0.05
"""Share of a layer's change that may be left out where nothing tells a rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """A combination that is written out as LoRA, wherever it is not one adapter's own."""

    contents: AdapterContents
    approximated: tuple[Approximated, ...]
    """Layers of which something may have been left out."""


def lower(
    combined: AdapterContents, base: Base, limits: Limits | None, *, by_svd: bool = False
) -> Generator[StageProgress, None, Lowered]:
    """Write a combination out.

    Args:
        combined: As `combine` made it.
        base: What it is for.
        limits: Of every layer; None: plain sums of LoRAs stay exact, any other layer gets as many
            ranks as its parts have together.
        by_svd: Without limits, bring every layer to the greatest rank among its parts.
    """
    changes: dict[str, Change] = {}
    approximated: list[Approximated] = []
    assert isinstance(combined.changes, CombinedChanges)
    total = len(combined.changes)
    for done, (layer, parts) in enumerate(combined.changes.parts.items(), start=1):
        change = combined.changes[layer]
        ranks = [part.rank for part, _ in parts]
        if _stays(change, limits, by_svd=by_svd):
            changes[layer] = change
        else:
            own = limits or _limits_of(ranks, by_svd=by_svd)
            changes[layer], found = _approximate(layer, change, base, own)
            approximated.append(found)
        yield StageProgress(stage=STAGE, done=done, total=total)
    contents = replace(combined, changes=changes)
    return Lowered(contents=contents, approximated=tuple(approximated))


def _stays(change: Change, limits: Limits | None, *, by_svd: bool) -> bool:
    """Tell whether a change can be written as it is: a LoRA, or the only one of its layer."""
    return limits is None and not by_svd and isinstance(change, LowRank | Decomposed)


def _limits_of(ranks: list[int | None], *, by_svd: bool) -> Limits:
    known = [rank for rank in ranks if rank is not None]
    if len(known) < len(ranks):
        return Limits(residual=RESIDUAL_WITHOUT_RANKS)
    return Limits(rank=max(known) if by_svd else sum(known))


def _approximate(
    layer: str, change: Change, base: Base, limits: Limits
) -> tuple[LowRank, Approximated]:
    weight = base.weight(layer)
    whole = weight_change(change, weight)
    if isinstance(change, LowRank):
        factors = shrink(without_core(change), weight.shape, limits)
    else:
        factors = nearest_low_rank(whole, limits)
    found = factors.difference(whole.shape, whole.device)
    return factors, Approximated(
        layer=layer,
        rank=factors.rank,
        residual=relative_distance(found, whole),
        norm=frobenius_norm(whole),
    )
