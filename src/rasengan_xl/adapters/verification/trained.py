"""Verify an adapter while it still sits on the model it was trained on."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.adapters.changes import on_layer
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.files import file_key
from rasengan_xl.adapters.inventory import predict_trainable_parameters
from rasengan_xl.adapters.verification.attachment import Attachment
from rasengan_xl.adapters.verification.base_checks import check_base
from rasengan_xl.adapters.verification.contents_checks import (
    check_count,
    check_scale,
    is_expected_scale,
)
from rasengan_xl.adapters.verification.file_checks import (
    AdapterFile,
    check_finite,
    check_keys,
    check_precision,
    open_file,
)
from rasengan_xl.adapters.verification.fingerprint import BaseFingerprint
from rasengan_xl.adapters.verification.kinds import list_kinds
from rasengan_xl.adapters.verification.outcomes import first_of, not_checked, outcome, plural
from rasengan_xl.adapters.verification.weights import check_change, measure_change
from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.weights import read_weight
from rasengan_xl.file_digests import file_digest
from rasengan_xl.runs.verification import Check, LayerChange, Verification
from rasengan_xl.sdxl.components import load_unet_shape
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.layers import list_layers
from rasengan_xl.sdxl.model_folder import ModelFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedAdapter:
    """An adapter on its base, and its file."""

    adapter: Adapter
    """With the weights that were saved."""
    file: Path
    settings: AdapterSettings
    model: ModelFolder
    """Base, as it lies on the disk."""
    base: BaseFingerprint
    """Taken before the adapter was attached."""
    attached: Attachment
    """Taken right after."""
    compute: Compute


def verify_trained(trained: TrainedAdapter) -> Verification:
    """Check that the file holds what was trained, that it works, and that the base is untouched.

    No weights are loaded; of the base, one layer at a time is looked at.

    Raises:
        AdapterError: The file is damaged, or holds no adapter.
    """
    layers = list_layers(trained.model)
    file = open_file(trained.file, layers)
    checks = [
        check_keys(file),
        _check_saved(trained.adapter, file),
        check_finite(file),
        check_precision(file, from_run=True),
    ]
    measured: list[LayerChange] = []
    contents = file.contents
    if contents is None:
        unread = ("parameter count", "scale", "weight change")
        checks += [not_checked(name, "the file is not understood") for name in unread]
    else:
        measured = _measure_changes(trained.adapter, contents)
        shape = load_unet_shape(trained.model)
        predicted = predict_trainable_parameters(shape, trained.settings)
        checks += [
            check_count(contents, layers, predicted),
            _check_live_scale(trained, contents),
            check_change(measured),
        ]
    checks += check_base(trained.adapter, trained.base, trained.attached, measured, trained.compute)
    return Verification(
        passed=not any(check.status == "failed" for check in checks),
        adapter=trained.file.name,
        sha256=file_digest(trained.file),
        form=contents.form if contents else "",
        base=_describe_base(trained),
        kinds=list_kinds(contents) if contents else [],
        parameters=contents.parameter_count if contents else 0,
        facts={},
        notes=[],
        checks=checks,
        layers=measured,
    )


def _check_saved(adapter: Adapter, file: AdapterFile) -> Check:
    """Compare the file with the weights on the model, bit for bit."""
    live = {f"unet.{file_key(name)}": p.detach().cpu() for name, p in adapter.parameters.items()}
    faults: list[str] = []
    for what, names in (
        ("not in the file", live.keys() - file.tensors.keys()),
        ("only in the file", file.tensors.keys() - live.keys()),
        (
            "not the same",
            {
                n
                for n in live.keys() & file.tensors.keys()
                if not _is_same(live[n], file.tensors[n])
            },
        ),
    ):
        if names:
            faults.append(f"{plural(len(names), 'weight')} {what}: {first_of(sorted(names))}")
    found = f"read back, all {plural(len(live), 'weight')} are those on the model, to the bit"
    return outcome("saved", "; ".join(faults), found, weights=len(live))


def _is_same(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first, second)


def _measure_changes(adapter: Adapter, contents: AdapterContents) -> list[LayerChange]:
    bases = {f"unet.{name}": layer.base for name, layer in adapter.layers.items()}
    measured: list[LayerChange] = []
    for name, change in contents.changes.items():
        if name not in bases:
            measured.append(measure_change(name, change, torch.Size(), None))
            continue
        weight = read_weight(bases[name])
        measured.append(measure_change(name, on_layer(change, bases[name]), weight.shape, weight))
    return measured


def _check_live_scale(trained: TrainedAdapter, contents: AdapterContents) -> Check:
    """Check the scale in the file, and that on the model."""
    in_file = check_scale(contents, trained.settings)
    live = {f"unet.{name}": scale for name, scale in trained.adapter.scales().items()}
    off = [n for n, s in live.items() if not is_expected_scale(trained.settings, n, s)]
    if off and in_file.status == "passed":
        fault = f"the model computed with another on {plural(len(off), 'layer')}: {first_of(off)}"
        return outcome("scale", fault, "")
    return in_file


def _describe_base(trained: TrainedAdapter) -> str:
    storage, dtype = STORAGES[trained.settings.base_precision], trained.compute.dtype
    how = storage.title if storage.is_quantized else str(dtype).removeprefix("torch.")
    return f"{trained.model.name} in {how}, as it was trained on"
