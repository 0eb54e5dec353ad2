"""Export several adapters as one."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

from rasengan_xl.adapters.combining.combine import Combination, combine
from rasengan_xl.adapters.combining.lower import lower
from rasengan_xl.adapters.low_rank import Limits
from rasengan_xl.adapters.verification.subject import Subject, find_subject
from rasengan_xl.adapters.writing.conversion import Approximated, overall_residual
from rasengan_xl.adapters.writing.export import (
    Exported,
    export_adapter,
    export_source,
    refuse_early,
    tell_base,
)
from rasengan_xl.adapters.writing.source import Source, read_source
from rasengan_xl.config.export_settings import ExportSettings
from rasengan_xl.errors import AdapterError, RecipeError
from rasengan_xl.runs.records import StageProgress


def export_adapters(
    paths: Sequence[Path], base: str | None, out: Path, settings: ExportSettings
) -> Generator[StageProgress, None, Exported]:
    """Export an adapter, or several that are combined into one.

    Args:
        paths: Runs' folders and adapters' files.
        base: The base model; None: what they were trained on.
        out: What to write: a file, or a folder.
        settings: How.

    Raises:
        RecipeError: There are not as many weights as adapters.
        AdapterError: There is no adapter, one does not fit the base, or bases differ.
        ModelError: The base cannot be had.
        OutputError: Something is in the way, or what would be written would not be the adapter.
    """
    if len(paths) == 1:
        _refuse_needless(settings)
        return (yield from export_adapter(paths[0], base, out, settings))
    weights = settings.weights or (1.0,) * len(paths)
    if len(weights) != len(paths):
        raise RecipeError(
            f"export: weights: there are {len(weights)} for {len(paths)} adapters; give one for "
            "each, such as --weights 0.7,0.3"
        )
    refuse_early(out, settings)
    sources, notes = _read_all(paths, base)
    source, found = yield from _combine(sources, weights, settings)
    plain = settings.model_copy(update={"rank": None, "residual": None})
    exported = yield from export_source(source, out, plain)
    approximated = (*found, *exported.approximated)
    return replace(
        exported,
        approximated=approximated,
        overall_residual=overall_residual(approximated),
        notes=(*notes, *source.contents.notes, *exported.notes),
    )


def _refuse_needless(settings: ExportSettings) -> None:
    if settings.weights is not None:
        raise RecipeError("export: weights: are for several adapters; of one, use --strength")
    if settings.merge != "linear":
        raise RecipeError("export: merge: takes several adapters; name another, or leave it out")


def _read_all(paths: Sequence[Path], base: str | None) -> tuple[list[Source], tuple[str, ...]]:
    """Read adapters on the base that all share, and say what must be known of them."""
    sources: list[Source] = []
    notes: list[str] = []
    for subject in _on_one_base([find_subject(path, base) for path in paths]):
        source = read_source(subject)
        sources.append(source)
        notes += (f"{source.title}: {note}" for note in tell_base(source))
    pure = [source.from_pure_noise for source in sources]
    if any(pure) and not all(pure):
        notes.append("some of them were trained with zero terminal SNR, and all are drawn so")
    return sources, tuple(notes)


def _on_one_base(subjects: list[Subject]) -> list[Subject]:
    """Give files without a known base that of the others."""
    known = [subject for subject in subjects if subject.model is not None]
    for other in known[1:]:
        if other.model != known[0].model:
            first, second = (each.model.path for each in (known[0], other) if each.model)
            raise AdapterError(
                f"{other.file}: was trained on {second}, {known[0].file} on {first}: only adapters "
                "of one base can be combined; name a base for all with --base"
            )
    if not known:
        return subjects
    model, layers = known[0].model, known[0].layers
    return [replace(subject, model=model, layers=layers) for subject in subjects]


def _combine(
    sources: list[Source], weights: tuple[float, ...], settings: ExportSettings
) -> Generator[StageProgress, None, tuple[Source, tuple[Approximated, ...]]]:
    first, by_svd = sources[0], settings.merge == "svd"
    how = Combination(
        weights=weights,
        method="linear" if settings.merge == "svd" else settings.merge,
        density=settings.density,
        seed=settings.seed,
    )
    # A run's file is called as that of any other run.
    named = [replace(each.contents, source=Path(each.title)) for each in sources]
    contents = combine(named, how, first.base)
    approximated: tuple[Approximated, ...] = ()
    if settings.to != "merged":  # which holds whole weights, and is written layer by layer
        asked = settings.rank is not None or settings.residual is not None
        limits = Limits(rank=settings.rank, residual=settings.residual or 0.0) if asked else None
        lowered = yield from lower(contents, first.base, limits, by_svd=by_svd)
        contents, approximated = lowered.contents, lowered.approximated
    combined = Source(
        subject=replace(first.subject, settings=None, trained_on=None),
        contents=contents,
        stored=first.stored,
        folder=first.folder,
        dataset=None,
        summary=None,
        parts=tuple(sources),
    )
    return combined, approximated
