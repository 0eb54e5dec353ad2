"""Bring the layers of an adapter into the form of a file, and know how exact each is."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rasengan_xl.adapters.base import Base
from rasengan_xl.adapters.changes import Decomposed, LowRank, Weight, weight_change
from rasengan_xl.adapters.consumers.targets import Target
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.low_rank import (
    Limits,
    frobenius_norm,
    product_norm,
    relative_distance,
)
from rasengan_xl.adapters.writing.checking import DecomposedSize, rounding_allowance
from rasengan_xl.adapters.writing.kohya_form import kohya_tensors
from rasengan_xl.adapters.writing.peft_form import peft_header, peft_tensors
from rasengan_xl.adapters.writing.plain import (
    Expressed,
    Wanted,
    at_strength,
    decompose,
    express,
    is_expressible,
)
from rasengan_xl.adapters.writing.tensors import Described, describe, in_precision


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How an adapter is exported."""

    target: Target
    dtype: torch.dtype = torch.float32
    """Of factors; alphas and magnitudes stay in float32."""
    limits: Limits
    """Of layers that the target's form cannot hold exactly."""
    resized: bool = False
    """Whether all layers come under the limits."""
    strength: float = 1.0
    """Baked in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approximated:
    """A layer of which only the nearest change of a rank was written."""

    layer: str
    rank: int
    residual: float
    """Norm of what is left out, relative to that of the layer's change."""
    norm: float
    """Of the layer's change, Frobenius'."""


def overall_residual(approximated: Sequence[Approximated]) -> float:
    """Return what is left out of all layers together, relative to their change."""
    whole = sum(each.norm**2 for each in approximated)
    left_out = sum((each.residual * each.norm) ** 2 for each in approximated)
    return (left_out / whole) ** 0.5 if whole else 0.0


class Conversion:
    """Layers that are converted one by one, and what is known of them."""

    def __init__(self, contents: AdapterContents, base: Base, options: ExportOptions) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.described: dict[str, Described] = {}
        self.allowed: dict[str, float] = {}
        """How far a layer may be off, relative to its change: rounding, and what is left out."""
        self.approximated: list[Approximated] = []
        self._contents, self._base, self._options = contents, base, options
        self._decomposed_parts = _decomposed_parts(contents, options.target)

    def convert(self, layer: str) -> None:
        """Express a layer's change, and keep its tensors in the precision of the file.

        Raises:
            OutputError: It has no place in the form, or is beyond the precision.
        """
        options, weight = self._options, self._base.weight(layer)
        wanted = Wanted(
            decompositions=options.target.decompositions_of(layer),
            limits=options.limits,
            resized=options.resized,
        )
        change = at_strength(self._contents.changes[layer], weight, options.strength)
        expressed = express(change, weight, wanted)
        if isinstance(expressed, LowRank) and layer.partition(".")[0] in self._decomposed_parts:
            expressed = decompose(expressed, weight)
        self.described[layer] = describe(expressed)
        self._note_exactness(layer, expressed, weight)
        self.tensors |= in_precision(self._named(layer, expressed), options.dtype)

    def trained(self, layer: str, weight: Weight) -> Weight:
        """Return the change that was trained, at the strength that is baked in."""
        return self._options.strength * weight_change(self._contents.changes[layer], weight)

    def header(self) -> dict[str, str]:
        """Return what the form itself has in its header."""
        is_peft = self._options.target.consumer == "diffusers"
        return peft_header(self.described) if is_peft else {}

    def _named(self, layer: str, expressed: Expressed) -> dict[str, Tensor]:
        if self._options.target.consumer == "diffusers":
            return peft_tensors({layer: expressed}, self._base.layers.shapes)
        return kohya_tensors({layer: expressed}, self._base.layers)

    def _note_exactness(self, layer: str, expressed: Expressed, weight: Weight) -> None:
        """Keep how far a layer may be off; of a plain LoRA that is kept, without making it."""
        dtype = self._options.dtype
        if self._is_kept(layer, expressed) and isinstance(expressed, LowRank):
            factors = (expressed.up.flatten(1), expressed.down.flatten(1))
            norm = abs(expressed.scale) * product_norm(*factors)
            self.allowed[layer] = rounding_allowance(expressed, dtype, norm)
            return
        weight = weight.double()
        trained = self.trained(layer, weight)
        norm, size = frobenius_norm(trained), None
        if isinstance(expressed, Decomposed):
            gain = expressed.gain(weight).abs().max().item()
            size = DecomposedSize(largest_gain=gain, weight_norm=frobenius_norm(weight))
        factors = expressed.direction if isinstance(expressed, Decomposed) else expressed
        assert isinstance(factors, LowRank)
        self.allowed[layer] = rounding_allowance(factors, dtype, norm, size)
        if not self._is_kept(layer, expressed):
            residual = relative_distance(weight_change(expressed, weight), trained)
            rank = self.described[layer].rank
            self.approximated.append(
                Approximated(layer=layer, rank=rank, residual=residual, norm=norm)
            )
            self.allowed[layer] += residual

    def _is_kept(self, layer: str, expressed: Expressed) -> bool:
        """Tell whether a layer was written exactly: in its own form, or another that holds it."""
        change = self._contents.changes[layer]
        if self._options.resized:
            return False
        if isinstance(change, Decomposed) and not isinstance(expressed, Decomposed):
            return False
        return is_expressible(change, self._options.target.decompositions_of(layer))


def _decomposed_parts(contents: AdapterContents, target: Target) -> set[str]:
    """Find the parts whose layers must all be DoRA: PEFT knows no mixture."""
    if target.consumer != "diffusers":
        return set()
    return {
        layer.partition(".")[0]
        for layer, change in contents.changes.items()
        if isinstance(change, Decomposed)
        and is_expressible(change, target.decompositions_of(layer))
    }
