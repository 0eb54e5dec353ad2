"""Verify an adapter: every check that can be made with what is at hand."""

from collections.abc import Generator
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.inventory import predict_trainable_parameters
from rasengan_xl.adapters.verification.contents_checks import (
    check_count,
    check_round_trip,
    check_scale,
)
from rasengan_xl.adapters.verification.file_checks import (
    AdapterFile,
    check_finite,
    check_keys,
    check_precision,
    open_file,
)
from rasengan_xl.adapters.verification.kinds import kind_of, list_kinds, pick_facts
from rasengan_xl.adapters.verification.origin import check_origin, check_unaltered
from rasengan_xl.adapters.verification.outcomes import not_checked
from rasengan_xl.adapters.verification.outputs import (
    check_text_outputs,
    check_unet_outputs,
    find_device,
)
from rasengan_xl.adapters.verification.subject import Subject, find_subject
from rasengan_xl.adapters.verification.weights import (
    check_change,
    check_strength,
    has_exact_ends,
    measure_change,
)
from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.file_digests import file_digest
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.runs.verification import Check, LayerChange, Verification
from rasengan_xl.sdxl.components import load_unet_shape
from rasengan_xl.sdxl.full_size import build_full_size_unet
from rasengan_xl.sdxl.stored_weights import StoredWeights

_NEED_CONTENTS = ("parameter count", "scale", "weight change", "strength", "round trip")
_NEED_UNET = ("output changed", "output restored", "plain diffusers")


def verify_adapter(
    path: Path, base: str | None = None
) -> Generator[StageProgress, None, Verification]:
    """Check an adapter, yielding progress as it goes.

    Args:
        path: A run's folder or an adapter's file.
        base: What to check it on; None: what it was trained on, if that is known and here.

    Returns:
        What was found, whether good or bad.

    Raises:
        AdapterError: There is no adapter there, or it is damaged.
        ModelError: The base that is named cannot be had.
    """
    yield StageProgress(stage="read", done=0, total=1)
    subject = find_subject(path, base)
    file = open_file(subject.file, subject.layers)
    from_run = subject.settings is not None
    checks = [check_keys(file), check_finite(file), check_precision(file, from_run=from_run)]
    yield StageProgress(stage="read", done=1, total=1)
    layers: list[LayerChange] = []
    if file.contents is None:
        reason = "the file is not understood"
        checks += [not_checked(name, reason) for name in (*_NEED_CONTENTS, *_NEED_UNET)]
    else:
        checks += _check_contents(subject, file, file.contents)
        layers, found = yield from _check_weights(subject, file.contents)
        checks += found
        yield StageProgress(stage="compute", done=0, total=1)
        checks += _check_outputs(subject, file.contents)
        yield StageProgress(stage="compute", done=1, total=1)
    checks += [*check_unaltered(subject), check_origin(subject)]
    return _put_together(subject, file, checks, layers)


def _check_contents(subject: Subject, file: AdapterFile, contents: AdapterContents) -> list[Check]:
    settings = subject.settings.adapter if subject.settings else None
    predicted = None
    if settings:
        model = subject.model
        shape = load_unet_shape(model) if model else _full_size_shape()
        predicted = predict_trainable_parameters(shape, settings)
    return [
        check_count(contents, subject.layers, predicted),
        check_scale(contents, settings),
        check_round_trip(file, subject.layers),
    ]


def _check_weights(
    subject: Subject, contents: AdapterContents
) -> Generator[StageProgress, None, tuple[list[LayerChange], list[Check]]]:
    """Go through the layers once, with no more than one weight of the base in memory."""
    stored = StoredWeights(subject.model) if subject.model else None
    device = find_device()
    layers: list[LayerChange] = []
    seen: set[tuple[str, int | None, torch.Size]] = set()  # all of a form are computed alike
    inexact: list[str] = []
    total = len(contents.changes)
    for done, (name, change) in enumerate(contents.changes.items()):
        yield StageProgress(stage="weights", done=done, total=total)
        shape = subject.layers.shapes[name]
        weight = stored.read(f"{name}.weight").to(device) if stored else None
        layers.append(measure_change(name, change, shape, weight))
        form = (kind_of(change), change.rank, shape)
        if weight is not None and form not in seen:
            seen.add(form)
            if not has_exact_ends(contents, name, weight):
                inexact.append(name)
    yield StageProgress(stage="weights", done=total, total=total)
    if stored is None:
        return layers, [check_change(layers), not_checked("strength", subject.without_base)]
    return layers, [check_change(layers), check_strength(inexact, len(seen))]


def _check_outputs(subject: Subject, contents: AdapterContents) -> list[Check]:
    if subject.model is None:
        return [not_checked(name, subject.without_base) for name in _NEED_UNET]
    return [
        *check_text_outputs(subject.model, contents),
        *check_unet_outputs(subject.model, contents),
    ]


def _put_together(
    subject: Subject, file: AdapterFile, checks: list[Check], layers: list[LayerChange]
) -> Verification:
    contents = file.contents
    return Verification(
        passed=not any(check.status == "failed" for check in checks),
        adapter=str(subject.file),
        sha256=file_digest(subject.file),
        form=contents.form if contents else "",
        base=_describe_base(subject),
        kinds=list_kinds(contents) if contents else [],
        parameters=contents.parameter_count if contents else 0,
        facts=pick_facts(file.header),
        notes=list(contents.notes) if contents else [],
        checks=checks,
        layers=layers,
    )


def _describe_base(subject: Subject) -> str:
    if subject.model is None:
        return ""
    precision = subject.settings.adapter.base_precision if subject.settings else "full"
    storage = STORAGES[precision]
    rounded = f" without quantization, though the run trained on it in {storage.title}"
    return f"{subject.model.name}{rounded if storage.is_quantized else ''}"


def _full_size_shape() -> UNet2DConditionModel:
    with torch.device("meta"):
        return build_full_size_unet()
