"""What can be told of an adapter from its file alone."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.adapters.reading.faults import shown
from rasengan_xl.adapters.verification.outcomes import first_of, noted, outcome, plural
from rasengan_xl.errors import AdapterError
from rasengan_xl.runs.verification import Check
from rasengan_xl.sdxl.layers import ModelLayers
from rasengan_xl.tensor_file import UNREADABLE, read_header, read_tensors

_MARKS = (".lora", "lora_", "hada_", "lokr_", "dora_scale", "magnitude")
"""One of these is in the name of any weight of an adapter."""
_EXACT = {"float64", "float32", "float16", "bfloat16"}
"""What adapters are stored in without more loss than drawing in 16 bits has anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFile:
    """A file with everything in it, whether or not it is understood."""

    path: Path
    tensors: Mapping[str, Tensor]
    header: Mapping[str, str]
    contents: AdapterContents | None
    refusal: str = ""
    """Why it is not understood."""

    @property
    def weights(self) -> dict[str, Tensor]:
        """Everything but alphas, which are settings."""
        return {name: t for name, t in self.tensors.items() if not name.endswith("alpha")}


def open_file(path: Path, layers: ModelLayers) -> AdapterFile:
    """Read an adapter, also one that does not fit its base.

    Raises:
        AdapterError: It is no adapter at all, or no sound file.
    """
    try:
        contents, refusal = read_adapter(path, layers), ""
    except AdapterError as error:
        contents, refusal = None, str(error)
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
    in_file = sum(weight.numel() for weight in file.weights.values())
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
    bad = [name for name, tensor in file.tensors.items() if not _is_finite(tensor)]
    names = first_of([shown(name) for name in bad])
    fault = f"NaN or infinity in {plural(len(bad), 'weight')}: {names}" if bad else ""
    return outcome("finite", fault, "no NaN, no infinity", weights_not_finite=len(bad))


def check_precision(file: AdapterFile, *, from_run: bool) -> Check:
    """Check in which precision the adapter is stored; ours train and are kept in float32.

    Of another's file, several precisions at once or 8 bits are noted.
    """
    counts = Counter(str(t.dtype).removeprefix("torch.") for t in file.weights.values())
    listed = ", ".join(f"{plural(n, 'weight')} in {name}" for name, n in counts.most_common())
    if from_run:
        fault = "" if set(counts) == {"float32"} else f"{listed}; a run's adapter is in float32"
        return outcome("precision", fault, listed, **counts)
    if counts.keys() & _EXACT and len(counts) == 1:
        return outcome("precision", "", listed, **counts)
    return noted("precision", listed, **counts)


def _is_finite(tensor: Tensor) -> bool:
    # 8-bit floats have no such test of their own.
    return bool(torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor).all())


def _read_anyway(path: Path, refusal: AdapterError) -> dict[str, Tensor]:
    """Read what can be, if the file holds an adapter's weights at all."""
    try:
        tensors = read_tensors(path)
    except UNREADABLE:
        raise refusal from None
    if not any(mark in name for name in tensors for mark in _MARKS):
        raise refusal
    return tensors
