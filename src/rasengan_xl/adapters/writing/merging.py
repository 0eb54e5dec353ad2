"""Write a base model with an adapter in it, and hold every changed weight against the sum."""

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rasengan_xl.adapters.changes import Change, Weight, changed_weight, weight_change
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.low_rank import frobenius_norm
from rasengan_xl.adapters.writing.checking import (
    FLOAT32_TOLERANCE,
    Deviation,
    deviation_between,
    refuse_deviation,
)
from rasengan_xl.errors import AdapterError
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.components import load_unet_shape
from rasengan_xl.sdxl.merged_file import SUFFIX, write_single_file
from rasengan_xl.sdxl.merged_folder import write_diffusers_folder
from rasengan_xl.sdxl.merged_weights import refuse_existing
from rasengan_xl.sdxl.model_folder import ModelFolder
from rasengan_xl.sdxl.single_file_names import SingleFileTensor, single_file_tensors
from rasengan_xl.sdxl.stored_weights import StoredWeights
from rasengan_xl.tensor_file import TensorFile

CHECK = "check weights"
"""The stage after writing."""
_WEIGHT = ".weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeOptions:
    """How an adapter is merged."""

    dtype: torch.dtype
    """Of UNet and text encoders."""
    strength: float
    zero_terminal_snr: bool
    """Whether the merged model begins from pure noise."""


def merge_adapter(
    contents: AdapterContents,
    model: ModelFolder,
    path: Path,
    options: MergeOptions,
    texts: Mapping[str, str],
) -> Generator[StageProgress, None, tuple[Deviation, ...]]:
    """Write the merged model, as a single file if it is named *.safetensors, else as a folder.

    Args:
        contents: The adapter.
        model: The base.
        path: Where to; it is there only once every weight has passed.
        options: How.
        texts: For the header of each file of weights.

    Raises:
        AdapterError: A change does not fit the base, or is not finite.
        OutputError: Something is there already, a weight is beyond the precision, or differs from
            base plus change by more than its rounding.
    """
    refuse_existing(path)
    draft = path.with_name(f"unchecked-{path.name}")
    refuse_existing(draft)
    merged = _Merged(contents.changes, options.strength)
    write = write_single_file if path.suffix == SUFFIX else write_diffusers_folder
    snr = options.zero_terminal_snr
    try:
        written = yield from write(
            model, merged, draft, options.dtype, texts, zero_terminal_snr=snr
        )
        _refuse_unmerged(contents, written.changed)
        deviations = yield from _check(model, merged, draft, options.dtype)
        refuse_deviation("whoever loads it", deviations, path)
        draft.rename(path)
    finally:
        with suppress(OSError):
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink(missing_ok=True)
    return tuple(deviations)


class _Merged:
    """From a tensor of the base to the merged one, or to itself where nothing changes."""

    def __init__(self, changes: Mapping[str, Change], strength: float) -> None:
        self._changes, self._strength = changes, strength

    def __call__(self, name: str, base: Tensor) -> Tensor:
        if not self.is_changed(name):
            return base
        change = self._changes[name.removesuffix(_WEIGHT)]
        if self._strength == 1:
            return changed_weight(change, base)
        return base.float() + self._strength * weight_change(change, base)

    def is_changed(self, name: str) -> bool:
        return name.endswith(_WEIGHT) and name.removesuffix(_WEIGHT) in self._changes


def _refuse_unmerged(contents: AdapterContents, changed: tuple[str, ...]) -> None:
    if missing := {f"{layer}{_WEIGHT}" for layer in contents.changes} - set(changed):
        raise AdapterError(
            f"{contents.source}: {len(missing)} layers have no weight in the base, first "
            f"{min(missing)}; use the base it was trained on"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _WrittenTensor:
    """A tensor of the merged model, and how to make it anew."""

    sources: tuple[str, ...]
    arrange: Callable[[list[Tensor]], Tensor]
    read: Callable[[], Tensor]


def _check(
    model: ModelFolder, merged: _Merged, draft: Path, dtype: torch.dtype
) -> Generator[StageProgress, None, list[Deviation]]:
    """Compare what lies in the file with base plus change, in float64."""
    stored = StoredWeights(model)
    changed = [
        each
        for each in _written_tensors(model, stored, draft)
        if any(merged.is_changed(source) for source in each.sources)
    ]
    deviations: list[Deviation] = []
    for done, each in enumerate(changed, start=1):
        bases = [stored.read(source).double() for source in each.sources]
        base = each.arrange(bases)
        wanted = each.arrange(
            [merged(name, weight) for name, weight in zip(each.sources, bases, strict=True)]
        )
        name = each.sources[0].removesuffix(_WEIGHT)
        deviations.append(_deviation(name, each.read().double(), base, wanted, dtype))
        yield StageProgress(stage=CHECK, done=done, total=len(changed))
    return deviations


def _deviation(
    layer: str, found: Weight, base: Weight, wanted: Weight, dtype: torch.dtype
) -> Deviation:
    """Compare, allowing what rounding whole weights can do to the change, which is far smaller."""
    change = wanted - base
    norm = frobenius_norm(change)
    if not norm:  # a share of nothing bounds no rounding: the weight is the base's, rounded
        return deviation_between(layer, found - base.to(dtype), change, 0.0)
    unit = torch.finfo(dtype).eps
    allowed = FLOAT32_TOLERANCE + unit * frobenius_norm(wanted) / norm
    return deviation_between(layer, found - base, change, allowed)


def _written_tensors(
    model: ModelFolder, stored: StoredWeights, draft: Path
) -> Iterator[_WrittenTensor]:
    if draft.is_dir():
        folder = StoredWeights(ModelFolder(path=draft, name=str(draft)))
        for name in stored.names():
            yield _WrittenTensor(
                sources=(name,), arrange=_the_one, read=_reading(folder.read, name)
            )
        return
    content = TensorFile(draft)
    planned: list[SingleFileTensor] = single_file_tensors(stored.names(), load_unet_shape(model))
    for plan in planned:
        yield _WrittenTensor(
            sources=plan.sources, arrange=plan.arrange, read=_reading(content.read, plan.name)
        )


def _reading(read: Callable[[str], Tensor], name: str) -> Callable[[], Tensor]:
    return lambda: read(name)


def _the_one(tensors: list[Tensor]) -> Tensor:
    (tensor,) = tensors
    return tensor
