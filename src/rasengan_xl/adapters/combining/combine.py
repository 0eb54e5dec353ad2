"""Combine several adapters into one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft.utils import merge_utils

from rasengan_xl.adapters.base import Base
from rasengan_xl.adapters.changes import Change, Dense, LowRank, Weight, weight_change
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.low_rank import without_core
from rasengan_xl.adapters.writing.plain import at_strength
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.draws import keyed_seed

Method = Literal["linear", "ties", "dare"]
Weighted = tuple[Change, float]
"""A change of a layer, and its weight."""

_merge: Any = merge_utils  # PEFT's, without types


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """How adapters are combined."""

    weights: tuple[float, ...]
    """One for each adapter; may be negative or above 1."""
    method: Method = "linear"
    """The sum of the weight changes; or by TIES (arXiv:2306.01708), which keeps the largest numbers
    of each change and of those the ones whose sign prevails; or by DARE (arXiv:2311.03099), which
    keeps numbers by chance and scales them up."""
    density: float = 0.5
    """Share of each change's numbers that TIES and DARE keep, above 0 and below 1."""
    seed: int = 0
    """Of DARE's chance."""


def combine(contents: Sequence[AdapterContents], how: Combination, base: Base) -> AdapterContents:
    """Combine adapters into one, exactly.

    A sum of plain LoRAs is one whose rank is the sum of theirs.  Any other combination of a layer
    is written out when it is asked for and not kept, since all together may not fit into memory.

    Args:
        contents: The adapters.
        how: The way.
        base: What they are for.

    Raises:
        AdapterError: All weights are 0, or weights of the base are needed and not at hand.
    """
    assert len(contents) == len(how.weights)
    parts: dict[str, list[Weighted]] = {}
    for each, weight in zip(contents, how.weights, strict=True):
        for layer, change in each.changes.items() if weight else ():
            parts.setdefault(layer, []).append((change, weight))
    if not parts:
        raise AdapterError("combine: every weight is 0, so nothing is left; give another")
    if base.stored is None:
        _refuse_decomposed(contents)
    terms = (f"{w:g} x {c.source.stem}" for c, w in zip(contents, how.weights, strict=True))
    name = " + ".join(terms)
    return AdapterContents(
        source=Path(name),
        form=f"combined ({how.method})",
        changes=CombinedChanges(parts, how, base),
        header={"modelspec.merged_from": f"{name}{_describe(how)}"},
        notes=tuple(f"{each.source.name}: {note}" for each in contents for note in each.notes),
    )


class CombinedChanges(Mapping[str, Change]):
    """The changes of layers, each combined anew whenever it is asked for."""

    def __init__(
        self, parts: Mapping[str, Sequence[Weighted]], how: Combination, base: Base
    ) -> None:
        self.parts = parts
        """The changes that each layer's is combined of."""
        self._how, self._base = how, base

    def __getitem__(self, layer: str) -> Change:
        parts, how = self.parts[layer], self._how
        if how.method == "linear":
            return _add(parts, self._base, layer)
        weight = self._base.weight(layer)
        changes = [weight_change(change, weight) for change, _ in parts]
        weights = torch.tensor([share for _, share in parts])
        if how.method == "ties":
            return Dense(change=_merge.ties(changes, weights, how.density))
        with torch.random.fork_rng(devices=[]):  # PEFT draws from torch's global generator
            torch.manual_seed(keyed_seed(how.seed, "dare", layer))
            return Dense(change=_merge.dare_linear(changes, weights, how.density))

    def __contains__(self, layer: object) -> bool:
        """Tell whether a layer is changed, without combining its changes."""
        return layer in self.parts

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


def _add(parts: Sequence[Weighted], base: Base, layer: str) -> Change:
    if len(parts) == 1:
        change, share = parts[0]
        return at_strength(change, base.weight(layer), share)
    plain = [(change, share) for change, share in parts if isinstance(change, LowRank)]
    if len(plain) == len(parts):
        return _join(plain, base.layers.shapes[layer])
    weight = base.weight(layer)
    total = torch.zeros_like(weight)
    for change, share in parts:
        total += share * weight_change(change, weight)
    return Dense(change=total)


def _join(parts: Sequence[tuple[LowRank, float]], shape: torch.Size) -> LowRank:
    """Put the factors of LoRAs side by side: (B1 | B2) (A1 / A2) = B1 A1 + B2 A2."""
    downs: list[Weight] = []
    ups: list[Weight] = []
    for change, share in parts:
        plain = without_core(change)
        downs.append(plain.down.float().reshape(plain.rank, *shape[1:]))
        up = plain.up.float() * (share * plain.scale)
        ups.append(up.reshape(shape[0], plain.rank, *(1,) * (len(shape) - 2)))
    rank = sum(down.shape[0] for down in downs)
    return LowRank(down=torch.cat(downs), up=torch.cat(ups, dim=1), alpha=float(rank))


def _refuse_decomposed(contents: Sequence[AdapterContents]) -> None:
    for each in contents:
        if each.is_decomposed:
            raise AdapterError(
                f"{each.source}: is a DoRA, whose change depends on the weights of its base: name "
                "it with --base"
            )


def _describe(how: Combination) -> str:
    if how.method == "linear":
        return ""
    seed = f", seed {how.seed}" if how.method == "dare" else ""
    return f" ({how.method.upper()}, density {how.density:g}{seed})"
