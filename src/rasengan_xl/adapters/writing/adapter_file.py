"""Write an adapter for another program, and hold that program's formula against the source."""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from rasengan_xl.adapters.changes import Decomposed, LowRank, Weight, weight_change
from rasengan_xl.adapters.writing.checking import (
    Deviation,
    measure,
    read_as,
    refuse_deviation,
    rounding_allowance,
)
from rasengan_xl.adapters.consumers.targets import Target
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.low_rank import Limits, relative_distance
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
from rasengan_xl.errors import AdapterError
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.layers import ModelLayers
from rasengan_xl.sdxl.merged_weights import refuse_existing
from rasengan_xl.sdxl.stored_weights import StoredWeights
from rasengan_xl.tensor_stream import PlannedTensor, stream_tensors

CONVERT, WRITE, CHECK = "convert layers", "write tensors", "check layers"
"""Stages of the work."""


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
class Base:
    """The base model that an adapter is for, as far as it is at hand."""

    layers: ModelLayers
    stored: StoredWeights | None
    """None: only its shape is known, which is enough for plain LoRA."""

    def weight(self, layer: str) -> Weight:
        """Return a layer's weight, or a zero in its place if only its shape is known."""
        if self.stored is None:
            return torch.zeros(()).expand(self.layers.shapes[layer])
        return self.stored.read(f"{layer}.weight").float()


@dataclass(frozen=True, slots=True, kw_only=True)
class Approximated:
    """A layer of which only the nearest change of a rank was written."""

    layer: str
    rank: int
    residual: float
    """Norm of what is left out, relative to that of the layer's change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was written, and what its program will make of it."""

    file: Path
    target: Target
    layers: int
    deviations: tuple[Deviation, ...]
    approximated: tuple[Approximated, ...]
    overall_residual: float
    """Of all approximated layers together."""

    @property
    def worst(self) -> Deviation:
        """The layer that deviates most."""
        return max(self.deviations, key=lambda each: each.relative)


Describe = Callable[[Mapping[str, Described]], Mapping[str, str]]
"""Makes the texts of a file's header, of what its layers hold."""


def write_adapter(
    contents: AdapterContents, base: Base, file: Path, options: ExportOptions, texts: Describe
) -> Generator[StageProgress, None, ExportReport]:
    """Write an adapter for a program, and check what that will make of it.

    Args:
        contents: The adapter.
        base: What it was trained on.
        file: Where to; it is there only once every layer has passed.
        options: How.
        texts: Makes the header's entries, besides those that the form needs.

    Raises:
        AdapterError: The base's weights are needed and not at hand.
        OutputError: Something is there already, a layer has no place in the form or is beyond its
            precision, or the program would make something else of the file.
    """
    refuse_existing(file)
    _refuse_missing_weights(contents, base)
    work = _Work(contents, base, options)
    total = len(contents.changes)
    for done, layer in enumerate(contents.changes):
        yield StageProgress(stage=CONVERT, done=done, total=total)
        work.convert(layer)
    draft = file.with_name(f"{file.name}.unchecked.part")
    try:
        header = {**texts(work.described), **work.header()}
        yield from _write(draft, work.tensors, header)
        deviations = yield from work.check(draft)
        refuse_deviation(options.target.name, deviations, file)
        draft.replace(file)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    return ExportReport(
        file=file,
        target=options.target,
        layers=total,
        deviations=tuple(deviations),
        approximated=tuple(work.approximated),
        overall_residual=work.overall_residual,
    )


def _refuse_missing_weights(contents: AdapterContents, base: Base) -> None:
    if base.stored is None and contents.is_decomposed:
        raise AdapterError(
            f"{contents.source}: is a DoRA, whose change depends on the weights of its base; name "
            "it with --base"
        )


def _write(
    file: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]
) -> Generator[StageProgress]:
    planned = [
        PlannedTensor(name=name, shape=tuple(tensor.shape), dtype=tensor.dtype)
        for name, tensor in tensors.items()
    ]
    with closing(stream_tensors(file, planned, lambda name: tensors[name], header)) as written:
        for done, _ in enumerate(written, start=1):
            yield StageProgress(stage=WRITE, done=done, total=len(planned))


class _Work:
    """The layers as they are converted, one by one, and what is known of them."""

    def __init__(self, contents: AdapterContents, base: Base, options: ExportOptions) -> None:
        self._contents, self._base, self._options = contents, base, options
        self._decomposed_parts = _decomposed_parts(contents, options.target)
        self._allowed: dict[str, float] = {}
        self._left_out = self._whole = 0.0
        self.tensors: dict[str, Tensor] = {}
        self.described: dict[str, Described] = {}
        self.approximated: list[Approximated] = []

    @property
    def overall_residual(self) -> float:
        return (self._left_out / self._whole) ** 0.5 if self._whole else 0.0

    def convert(self, layer: str) -> None:
        """Express a layer's change, and keep its tensors in the precision of the file."""
        change, options = self._contents.changes[layer], self._options
        weight = self._base.weight(layer)
        wanted = Wanted(
            decompositions=options.target.decompositions_of(layer),
            limits=options.limits,
            resized=options.resized,
        )
        expressed = express(at_strength(change, weight, options.strength), weight, wanted)
        if isinstance(expressed, LowRank) and layer.partition(".")[0] in self._decomposed_parts:
            expressed = decompose(expressed, weight)
        self.described[layer] = describe(expressed)
        self._note_allowance(layer, expressed, weight)
        self.tensors |= in_precision(self._named(layer, expressed), options.dtype)

    def check(self, draft: Path) -> Generator[StageProgress, None, list[Deviation]]:
        """Compare every layer of the written file with the trained change."""
        evaluators = read_as(self._options.target, draft, self._base.layers)
        assert evaluators.keys() == self._contents.changes.keys()
        deviations: list[Deviation] = []
        for done, (layer, evaluate) in enumerate(evaluators.items(), start=1):
            weight = self._base.weight(layer)
            trained = self._trained(layer, weight.double())
            allowed = self._allowed[layer]
            deviations.append(measure(layer, evaluate, weight, trained, allowed))
            yield StageProgress(stage=CHECK, done=done, total=len(evaluators))
        return deviations

    def header(self) -> dict[str, str]:
        """Return what the form itself has in its header."""
        is_peft = self._options.target.consumer == "diffusers"
        return peft_header(self.described) if is_peft else {}

    def _named(self, layer: str, expressed: Expressed) -> dict[str, Tensor]:
        if self._options.target.consumer == "diffusers":
            return peft_tensors({layer: expressed}, self._base.layers.shapes)
        return kohya_tensors({layer: expressed}, self._base.layers)

    def _trained(self, layer: str, weight: Weight) -> Weight:
        return self._options.strength * weight_change(self._contents.changes[layer], weight)

    def _is_kept(self, layer: str, expressed: Expressed) -> bool:
        """Tell whether a layer was written exactly: in its own form, or another that holds it."""
        change = self._contents.changes[layer]
        if isinstance(change, Decomposed) and not isinstance(expressed, Decomposed):
            return False
        return is_expressible(change, self._options.target.decompositions_of(layer))

    def _note_allowance(self, layer: str, expressed: Expressed, weight: Weight) -> None:
        """Keep how far a layer may be off: by rounding, and by what was left out."""
        full = weight.double()
        trained = self._trained(layer, full)
        gain = (
            expressed.gain(full).abs().max().item() if isinstance(expressed, Decomposed) else 1.0
        )
        allowed = rounding_allowance(expressed, gain, trained, full, self._options.dtype)
        if self._options.resized or not self._is_kept(layer, expressed):
            residual = relative_distance(weight_change(expressed, full), trained)
            rank = self.described[layer].rank
            self.approximated.append(Approximated(layer=layer, rank=rank, residual=residual))
            norm = trained.norm().item()
            self._left_out += (residual * norm) ** 2
            self._whole += norm**2
            allowed += residual
        self._allowed[layer] = allowed


def _decomposed_parts(contents: AdapterContents, target: Target) -> set[str]:
    """Find the parts whose layers must all be DoRA: PEFT knows no mixture."""
    if target.consumer != "diffusers":
        return set()
    return {
        layer.partition(".")[0]
        for layer, change in contents.changes.items()
        if isinstance(change, Decomposed) and is_expressible(change, target.decompositions_of(layer))
    }
