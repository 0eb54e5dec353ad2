"""Bring changes into a form that a file can hold: plain LoRA, or DoRA as a program means it."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from rasengan_xl.adapters.changes import (
    Change,
    Decomposed,
    Dense,
    Difference,
    Hadamard,
    Kronecker,
    LowRank,
    Weight,
    weight_change,
)
from rasengan_xl.adapters.decomposition import Decomposition
from rasengan_xl.adapters.low_rank import Limits, nearest_low_rank, shrink, without_core

_SMALLEST_GAIN = 1e-3
"""Below which the direction of a row would have to be divided by almost nothing."""

Expressed = LowRank | Decomposed
"""What files hold: a LoRA without a core, or a DoRA over one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The form that is wanted."""

    decompositions: tuple[Decomposition, ...]
    """The forms of DoRA that may be written; none: plain LoRA only."""
    limits: Limits
    """Of layers that must be approximated."""
    resized: bool = False
    """Whether the limits hold for what could be written exactly, too."""


def express(change: Change, weight: Weight, wanted: Wanted) -> Expressed:
    """Bring one layer's change into a wanted form: exactly if it can be, else the nearest.

    Args:
        change: Of the layer.
        weight: Of the base; only its shape matters, but for DoRA.
        wanted: The form.
    """
    match change:
        case LowRank():
            plain = without_core(change)
            if not wanted.resized:
                return plain
            return shrink(plain, weight.shape, wanted.limits)
        case Decomposed(direction=LowRank()) if meaning := _find_meaning(change, wanted):
            direction = express(change.direction, weight, wanted)
            assert isinstance(direction, LowRank)
            return meant_as(replace(change, direction=direction), weight, meaning)
        case _:
            return nearest_low_rank(weight_change(change, weight), wanted.limits)


def is_expressible(change: Change, decompositions: tuple[Decomposition, ...]) -> bool:
    """Tell whether a change can be written exactly where these forms of DoRA are known."""
    if isinstance(change, Decomposed):
        known = any(change.axis == each.axis for each in decompositions)
        return known and isinstance(change.direction, LowRank)
    return isinstance(change, LowRank)


def meant_as(change: Decomposed, weight: Weight, meaning: Decomposition) -> Decomposed:
    """Rewrite magnitudes so that a program that means them so computes the same weight.

    With the gain g = m / norm, the magnitude for another norm is g times that norm.
    """
    meant = {name: getattr(meaning, name) for name in ("norm_of", "epsilon", "stored", "precision")}
    if all(getattr(change, name) == value for name, value in meant.items()):
        return change
    unit = torch.ones_like(change.magnitude, dtype=torch.float32)
    there = replace(change, magnitude=unit, **meant)
    magnitude = (change.gain(weight) / there.gain(weight)).reshape(change.magnitude.shape)
    return replace(there, magnitude=magnitude)


def decompose(change: LowRank, weight: Weight) -> Decomposed:
    """Write a plain LoRA as a DoRA that changes the weight by the same."""
    unit = Decomposed(direction=change, magnitude=torch.ones(weight.shape[0]))
    return replace(unit, magnitude=1 / unit.gain(weight).flatten())


def at_strength(change: Change, weight: Weight, strength: float) -> Change:
    """Bake a strength in: the way from the base's weight to the changed one, gone in part or past.

    A DoRA with a magnitude for each output stays one.  Where g is its gain and D its direction's
    change, W + s (g (W + D) - W) = g' (W + (s g / g') D), with g' = 1 + s (g - 1).
    """
    if strength == 1:
        return change
    if not isinstance(change, Decomposed):
        return _times(change, strength)
    if change.axis != "output" or not isinstance(change.direction, LowRank):
        return Dense(change=strength * weight_change(change, weight))
    gain = change.gain(weight).flatten()
    moved = 1 + strength * (gain - 1)
    if not (moved.abs() > _SMALLEST_GAIN).all():
        return Dense(change=strength * weight_change(change, weight))
    direction = _rows_times(without_core(change.direction), strength * gain / moved)
    unit = Decomposed(direction=direction, magnitude=torch.ones_like(gain))
    return replace(unit, magnitude=moved / unit.gain(weight).flatten())


def _find_meaning(change: Decomposed, wanted: Wanted) -> Decomposition | None:
    return next((each for each in wanted.decompositions if each.axis == change.axis), None)


def _times(change: Difference, strength: float) -> Difference:
    match change:
        case LowRank():
            sign = math.copysign(1, strength)
            return replace(change, up=sign * change.up, alpha=change.alpha * abs(strength))
        case Hadamard():
            left, right = change.first
            return replace(change, first=(strength * left.float(), right))
        case Kronecker():  # not by its alpha, which does not count if both factors are whole
            left, *rest = change.first
            return replace(change, first=(strength * left.float(), *rest))
        case Dense():
            return Dense(change=strength * change.change.float())


def _rows_times(change: LowRank, factors: Float[Tensor, " out"]) -> LowRank:
    up = change.up.float() * factors.reshape(-1, *(1,) * (change.up.dim() - 1))
    return replace(change, up=up)
