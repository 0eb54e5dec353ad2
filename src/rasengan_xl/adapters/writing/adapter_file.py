"""Write an adapter for another program, and hold that program's formula against the source."""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from rasengan_xl.adapters.base import Base
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.writing.checking import (
    Deviation,
    deviation_between,
    read_as,
    refuse_deviation,
)
from rasengan_xl.adapters.writing.conversion import (
    Approximated,
    Conversion,
    ExportOptions,
    overall_residual,
)
from rasengan_xl.adapters.writing.tensors import Described
from rasengan_xl.errors import AdapterError
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.merged_weights import refuse_existing
from rasengan_xl.tensor_stream import PlannedTensor, stream_tensors
from rasengan_xl.whole_file import DRAFT_SUFFIX

CONVERT, WRITE, CHECK = "convert layers", "write tensors", "check layers"
"""Stages of the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What a program will make of what was written for it."""

    deviations: tuple[Deviation, ...]
    """Of every layer, by the program's own formula."""
    approximated: tuple[Approximated, ...]
    """Layers of which only the nearest change of a rank was written."""

    @property
    def overall_residual(self) -> float:
        """What is left out of all approximated layers together, relative to their change."""
        return overall_residual(self.approximated)

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
    if not contents.is_decomposed:  # what is added does not depend on what it is added to
        base = replace(base, stored=None)
    layers, total = Conversion(contents, base, options), len(contents.changes)
    for done, layer in enumerate(contents.changes, start=1):
        layers.convert(layer)
        yield StageProgress(stage=CONVERT, done=done, total=total)
    draft = file.with_name(f"{file.name}.unchecked{DRAFT_SUFFIX}")
    try:
        yield from _write(draft, layers.tensors, {**texts(layers.described), **layers.header()})
        deviations = yield from _check(draft, base, options, layers)
        refuse_deviation(options.target.name, deviations, file)
        draft.replace(file)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    return ExportReport(deviations=tuple(deviations), approximated=tuple(layers.approximated))


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


def _check(
    draft: Path, base: Base, options: ExportOptions, layers: Conversion
) -> Generator[StageProgress, None, list[Deviation]]:
    """Compare every layer of the written file with the trained change."""
    evaluators = read_as(options.target, draft, base.layers)
    assert evaluators.keys() == layers.described.keys()
    deviations: list[Deviation] = []
    for done, (layer, evaluate) in enumerate(evaluators.items(), start=1):
        weight = base.weight(layer)
        if base.stored is not None:
            weight = weight.double()  # a DoRA's change is the small difference of two weights
        trained = layers.trained(layer, weight)
        allowed = layers.allowed[layer]
        deviations.append(deviation_between(layer, evaluate(weight), trained, allowed))
        yield StageProgress(stage=CHECK, done=done, total=len(evaluators))
    return deviations
