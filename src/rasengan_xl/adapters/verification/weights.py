"""How far an adapter moves each layer's weight, and whether strengths are ends of a way."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from rasengan_xl.adapters.applying import AppliedAdapters
from rasengan_xl.adapters.changes import (
    Change,
    Decomposed,
    LowRank,
    Weight,
    changed_weight,
    weight_change,
)
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.verification.kinds import kind_of
from rasengan_xl.adapters.verification.outcomes import (
    Figure,
    first_of,
    not_checked,
    noted,
    outcome,
    plural,
)
from rasengan_xl.adapters.verification.probe import ROUNDING
from rasengan_xl.runs.verification import Check, LayerChange


def measure_change(
    layer: str, change: Change, shape: torch.Size, weight: Weight | None
) -> LayerChange:
    """Measure how far a layer's weight is moved.

    Args:
        layer: Its name.
        change: What the adapter does to it.
        shape: Of the weight.
        weight: Of the base; None: it is not at hand, and a change that depends on it is unknown.
    """
    measured = LayerChange(
        layer=layer, kind=kind_of(change), rank=change.rank, scale=_finite(change.scale) or 0.0
    )
    moved = _change_norm(change, shape, weight)
    found = {
        "change_norm": None if moved is None else _finite(moved),
        "weight_norm": None if weight is None else norm(weight),
    }
    return measured.model_copy(update=found)


def check_change(layers: Sequence[LayerChange]) -> Check:
    """Check that weights are moved at all; names the layers that are not."""
    known = [layer for layer in layers if layer.change_norm is not None]
    if not known:
        return not_checked("weight change", "how far DoRA moves a weight takes the base")
    zero = [layer.layer for layer in known if _is_nothing(layer)]
    figures = _figures(known)
    described = _describe(known, figures)
    if len(zero) == len(layers):
        return outcome("weight change", "zero on every layer: the adapter does nothing", "")
    if len(known) < len(layers):
        described += f"; {plural(len(layers) - len(known), 'layer')} could not be measured"
    if zero:
        detail = f"zero on {plural(len(zero), 'layer')}: {first_of(zero)}; else {described}"
        return noted("weight change", detail, layers_of_zero=len(zero), **figures)
    return outcome("weight change", "", described, layers_of_zero=0, **figures)


def norm(weight: Tensor) -> float:
    """Return the Frobenius norm, summed in float32."""
    algebra: Any = torch.linalg  # carries no full types
    return float(algebra.vector_norm(weight, dtype=torch.float32))


def has_exact_ends(contents: AdapterContents, layer: str, weight: Tensor) -> bool:
    """Tell whether strength 0 is the base's weight and 1 the adapter's, to the bit."""
    held = _as_layer(weight)
    change = contents.changes[layer]
    alone = replace(contents, changes={layer: change})
    adapters = AppliedAdapters({layer: held}, [alone], fuse=True)
    adapters.set_strengths([1.0])
    is_adapter = torch.equal(held.weight, changed_weight(change, weight).to(weight.dtype))
    adapters.set_strengths([0.0])
    is_base = torch.equal(held.weight, weight)
    adapters.remove()
    return is_adapter and is_base and torch.equal(held.weight, weight)


def check_strength(inexact: list[str], forms: int) -> Check:
    """Report whether strengths 0 and 1 are exact.

    Args:
        inexact: Layers on which they are not.
        forms: Kinds and shapes of layers, of each of which one was looked at.
    """
    fault = f"not exact on {plural(len(inexact), 'layer')}: {first_of(inexact)}" if inexact else ""
    found = f"0 is the base and 1 the adapter, to the bit, on a layer of each form ({forms})"
    return outcome("strength", fault, found, forms=forms, layers_not_exact=len(inexact))


def _change_norm(change: Change, shape: torch.Size, weight: Weight | None) -> float | None:
    if isinstance(change, LowRank) and change.mid is None:
        return _low_rank_norm(change)
    if isinstance(change, Decomposed):
        return None if weight is None else norm(weight_change(change, weight))
    return norm(change.difference(shape, torch.device("cpu")))


def _low_rank_norm(change: LowRank) -> float:
    """Return |s B A| by the identity |B A|^2 = <B'B, A A'>, without the large product."""
    down, up = (t.double().flatten(1) for t in (change.down, change.up))
    square = float(((up.T @ up) * (down @ down.T)).sum())
    return abs(change.scale) * math.sqrt(max(square, 0.0)) if math.isfinite(square) else math.nan


def _is_nothing(layer: LayerChange) -> bool:
    # DoRA that was never trained multiplies by a norm that it divides by, which rounds.
    return layer.change_norm == 0 or (layer.relative is not None and layer.relative < ROUNDING)


def _figures(layers: Sequence[LayerChange]) -> dict[str, Figure]:
    norms: Mapping[str, list[float]] = {
        "norm": [layer.change_norm for layer in layers if layer.change_norm is not None],
        "relative": [layer.relative for layer in layers if layer.relative is not None],
    }
    of: dict[str, Figure] = {}
    for name, values in norms.items():
        if values:
            of |= {
                f"{name}_min": min(values),
                f"{name}_median": median(values),
                f"{name}_max": max(values),
            }
    return of


def _describe(layers: Sequence[LayerChange], figures: Mapping[str, Figure]) -> str:
    if "relative_median" in figures:
        low, middle, high = (float(figures[f"relative_{n}"]) for n in ("min", "median", "max"))
        shares = f"{low:.2%} to {high:.2%} of the weight's norm, median {middle:.2%}"
        return f"{shares}, over {plural(len(layers), 'layer')}"
    low, middle, high = (float(figures[f"norm_{n}"]) for n in ("min", "median", "max"))
    return f"norm {low:.3g} to {high:.3g}, median {middle:.3g}, over {plural(len(layers), 'layer')}"


def _as_layer(weight: Tensor) -> nn.Linear | nn.Conv2d:
    """Put a weight into a layer of its own, to which an adapter can be applied."""
    out, into = weight.shape[:2]
    if weight.dim() == 2:
        layer: nn.Linear | nn.Conv2d = nn.Linear(into, out, bias=False, device="meta")
    else:
        kernel = (weight.shape[2], weight.shape[3])
        layer = nn.Conv2d(into, out, kernel, bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    return layer


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
