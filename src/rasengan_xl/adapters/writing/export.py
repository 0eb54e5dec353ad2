"""Export an adapter, from what was asked for to what was written."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from rasengan_xl.adapters.carrying import is_for_rounded
from rasengan_xl.adapters.changes import Change, Decomposed, tensors_of
from rasengan_xl.adapters.consumers.targets import (
    Consumer,
    Target,
    find_target,
    spell_versions,
)
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.low_rank import Limits
from rasengan_xl.adapters.writing.adapter_file import write_adapter
from rasengan_xl.adapters.writing.checking import Deviation
from rasengan_xl.adapters.writing.conversion import Approximated, ExportOptions
from rasengan_xl.adapters.writing.merging import MergeOptions, merge_adapter
from rasengan_xl.adapters.writing.metadata import adapter_texts, merged_texts
from rasengan_xl.adapters.writing.plain import is_expressible
from rasengan_xl.adapters.writing.source import Source, find_source
from rasengan_xl.config.export_settings import ExportSettings, Precision
from rasengan_xl.errors import OutputError
from rasengan_xl.runs.folder import ADAPTER_FILE
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.merged_weights import refuse_existing

DEFAULT_RESIDUAL = 0.05
"""Share of a layer's change that a plain LoRA may leave out, if it cannot hold it exactly."""
SUFFIX = ".safetensors"
_OTHER_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
"""Of pickles: who names one does not want a folder that is called so."""
_TYPES: dict[Precision, torch.dtype] = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
}
_PRECISIONS: dict[torch.dtype, Precision] = {dtype: name for name, dtype in _TYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written, and what the program that it is for will make of it."""

    path: Path
    target: str
    precision: str
    deviations: tuple[Deviation, ...]
    """Of every layer, by the program's own formula."""
    approximated: tuple[Approximated, ...] = ()
    """Layers of which only the nearest change of a rank was written."""
    overall_residual: float = 0.0
    """Of all of those together, relative to their change."""
    notes: tuple[str, ...] = ()
    """What a user must be told."""

    @property
    def worst(self) -> Deviation:
        """The layer that deviates most."""
        return max(self.deviations, key=lambda each: each.relative)


def export_adapter(
    path: Path, base: str | None, out: Path, settings: ExportSettings
) -> Generator[StageProgress, None, Exported]:
    """Export an adapter.

    Args:
        path: A run's folder or an adapter's file.
        base: The base model; None: what it was trained on.
        out: What to write: a file, or a folder.
        settings: How.

    Raises:
        AdapterError: There is no adapter, or it does not fit its base.
        ModelError: The base cannot be had.
        OutputError: Something is in the way, or what would be written would not be the adapter.
    """
    refuse_early(out, settings)
    source = find_source(path, base)
    notes = tell_base(source)
    exported = yield from export_source(source, out, settings)
    return replace(exported, notes=(*source.contents.notes, *notes, *exported.notes))


def refuse_early(out: Path, settings: ExportSettings) -> None:
    """Refuse what would else be found after minutes of work.

    Raises:
        OutputError: Something is in the way, or the target is not known.
    """
    if out.suffix in _OTHER_SUFFIXES:
        raise OutputError(
            f"{out}: only {SUFFIX} is written, which runs nothing when it is opened; name the file "
            "so, or a folder"
        )
    if settings.to == "merged":
        refuse_existing(out)
    else:
        find_target(settings.to, settings.target)
        refuse_existing(_adapter_file(out))


def export_source(
    source: Source, out: Path, settings: ExportSettings
) -> Generator[StageProgress, None, Exported]:
    """Write an adapter that has been read.

    Raises:
        OutputError: Something is in the way, or what would be written would not be the adapter.
    """
    if settings.to == "merged":
        return (yield from _merge(source, out, settings))
    return (yield from _write(source, out, settings))


def tell_base(source: Source) -> tuple[str, ...]:
    """Say what becomes of an adapter that was trained on a base in fewer bits.

    Raises:
        AdapterError: Its DoRA takes the base, which is not here.
    """
    if is_for_rounded(source.contents):
        _ = source.model  # refuses if it is not here
        return (
            "trained on a base in fewer bits: what is written is for the 16-bit one, on which each "
            "row keeps the gain that DoRA trained it to",
        )
    if source.trained_on.is_quantized:
        kept = "its change is the same on the 16-bit one"
        return (f"trained on a base in {source.trained_on.title}; {kept}",)
    return ()


def _write(
    source: Source, out: Path, settings: ExportSettings
) -> Generator[StageProgress, None, Exported]:
    target = find_target(cast("Consumer", settings.to), settings.target)
    precision = settings.dtype or _own_precision(source.contents, target)
    options = ExportOptions(
        target=target,
        dtype=_TYPES[precision],
        limits=Limits(rank=settings.rank, residual=settings.residual or DEFAULT_RESIDUAL),
        resized=settings.rank is not None or settings.residual is not None,
        strength=settings.strength,
    )
    file = _adapter_file(out)
    report = yield from write_adapter(
        source.contents,
        source.base,
        file,
        options,
        lambda described: adapter_texts(source, target, described, settings.strength),
    )
    return Exported(
        path=file,
        target=target.name,
        precision=precision,
        deviations=report.deviations,
        approximated=report.approximated,
        overall_residual=report.overall_residual,
        notes=_notes(source.contents, target, report.approximated),
    )


def _adapter_file(out: Path) -> Path:
    return out if out.suffix == SUFFIX else out / ADAPTER_FILE


def _own_precision(contents: AdapterContents, target: Target) -> Precision:
    """Return the precision in which nothing is lost that is there."""
    changes = contents.changes
    if not all(is_expressible(changes[one], target.decompositions_of(one)) for one in changes):
        return "fp16"  # what is only near does not come nearer by float32's digits
    held = {dtype for change in changes.values() for dtype in _factor_types(change)}
    return _PRECISIONS.get(held.pop(), "fp32") if len(held) == 1 else "fp32"


def _factor_types(change: Change) -> set[torch.dtype]:
    factors = change.direction if isinstance(change, Decomposed) else change
    return {tensor.dtype for tensor in tensors_of(factors)}


def _merge(
    source: Source, out: Path, settings: ExportSettings
) -> Generator[StageProgress, None, Exported]:
    precision = settings.dtype or "fp16"
    options = MergeOptions(
        dtype=_TYPES[precision],
        strength=settings.strength,
        zero_terminal_snr=source.from_pure_noise,
    )
    texts = merged_texts(source, settings.strength)
    deviations = yield from merge_adapter(source.contents, source.model, out, options, texts)
    return Exported(path=out, target="merged", precision=precision, deviations=deviations)


def _notes(
    contents: AdapterContents, target: Target, approximated: tuple[Approximated, ...]
) -> tuple[str, ...]:
    """Say which layers are of a kind that the target's form cannot hold."""
    others = [
        each.layer
        for each in approximated
        if not is_expressible(contents.changes[each.layer], target.decompositions_of(each.layer))
    ]
    if not others:
        return ()
    kind = "DoRA" if contents.is_decomposed else contents.form
    unknown = f"{target.name} does not compute this kind of DoRA; " if target.is_version else ""
    exact = "--to merged"
    if contents.is_decomposed and not unknown and target.consumer in ("comfyui", "kohya"):
        exact = f"--target ({spell_versions(target.consumer)}), or {exact}"
    return (
        f"{unknown}{len(others):,} layers of {kind} are written as plain LoRA, which every version "
        f"of {target.consumer} reads alike, but is not all of them; exact: {exact}; nearer: a "
        "smaller --residual",
    )
