"""What can be told of an adapter from its file alone."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.adapters.verification.kinds import plain_text
from rasengan_xl.adapters.verification.outcomes import first_of, noted, outcome, plural
from rasengan_xl.errors import AdapterError
from rasengan_xl.runs.verification import Check
from rasengan_xl.sdxl.layers import ModelLayers
from rasengan_xl.tensor_file import UNREADABLE, read_header, read_tensors

_MARKS = (".lora", "lora_", "hada_", "lokr_", "dora_scale", "magnitude")
"""One of these is in the name of any weight of an adapter."""
LONGEST_REASON = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFile:
    """A file with everything in it, whether or not it is understood."""

    path: Path
    tensors: Mapping[str, Tensor]
    header: Mapping[str, str]
    contents: AdapterContents | None
    refusal: str = ""
    """Why it is not understood."""


def open_file(path: Path, layers: ModelLayers) -> AdapterFile:
    """Read an adapter, also one that does not fit its base.

    Raises:
        AdapterError: It is no adapter at all, or no sound file.
    """
    try:
        contents, refusal = read_adapter(path, layers), ""
    except AdapterError as error:
        contents, refusal = None, plain_text(str(error), LONGEST_REASON)
        tensors = _read_anyway(path, error)
    else:
        tensors = read_tensors(path)
    header = read_header(path)
    return AdapterFile(
        path=path, tensors=tensors, header=header, contents=contents, refusal=refusal
    )


def check_keys(file: AdapterFile) -> Check:
    """Check that every weight of the file has its place in the base."""
    if file.contents is None:
        return outcome("keys", file.refusal.removeprefix(f"{file.path}: "), "")
    # An alpha is one number; everything else must be part of a change.
    in_file = sum(t.numel() for name, t in file.tensors.items() if not name.endswith("alpha"))
    understood = file.contents.parameter_count
    layers = len(file.contents.changes)
    fault = ""
    if in_file != understood:
        fault = f"of {in_file:,} numbers besides alphas, {understood:,} were understood"
    found = f"all {plural(len(file.tensors), 'weight')} belong to {plural(layers, 'layer')}"
    return outcome(
        "keys",
        fault,
        f"{found} of the base, none is left over",
        weights=len(file.tensors),
        layers=layers,
        numbers_left_over=in_file - understood,
    )


def check_finite(file: AdapterFile) -> Check:
    """Check that every number is one."""
    bad = [name for name, tensor in file.tensors.items() if not tensor.isfinite().all()]
    shown = first_of([plain_text(name) for name in bad])
    fault = f"NaN or infinity in {plural(len(bad), 'weight')}: {shown}" if bad else ""
    return outcome("finite", fault, "no NaN, no infinity", weights_not_finite=len(bad))


def check_precision(file: AdapterFile, *, from_run: bool) -> Check:
    """Check in which precision the adapter is stored; ours train and are kept in float32."""
    counts = Counter(str(t.dtype).removeprefix("torch.") for t in file.tensors.values())
    listed = ", ".join(f"{plural(n, 'weight')} in {name}" for name, n in counts.most_common())
    if from_run:
        fault = "" if set(counts) == {"float32"} else f"{listed}; a run's adapter is in float32"
        return outcome("precision", fault, listed, **counts)
    if len(counts) > 1:
        return noted("precision", listed, **counts)
    exact = torch.float32 in {t.dtype for t in file.tensors.values()}
    return outcome("precision", "", listed if exact else f"{listed}, rounded", **counts)


def _read_anyway(path: Path, refusal: AdapterError) -> dict[str, Tensor]:
    """Read what can be, if the file holds an adapter's weights at all."""
    try:
        tensors = read_tensors(path)
    except UNREADABLE:
        raise refusal from None
    if not any(mark in name for name in tensors for mark in _MARKS):
        raise refusal
    return tensors
