"""What each trainer means by the magnitudes of its DoRA.

| name in the file | writer | axis | norm of | added |
|---|---|---|---|---|
| `lora_magnitude_vector` | PEFT (1) | output | W + s B A | 0 |
| `dora_scale` [out, 1] | LyCORIS (2) | output | W + D | epsilon of float32 |
| `dora_scale` [1, in] | OneTrainer (3), LyCORIS with `wd_on_output=False` | input | W + D | same |
| `magnitude` [out] | ai-toolkit (4) | output | W + B A, without s | 0 |

(1) PEFT 0.21, peft/tuners/lora/dora.py.  (2) github.com/KohakuBlueleaf/LyCORIS 4.1.3,
lycoris/functional/general.py: `_weight_decompose`.  (3) github.com/Nerogar/OneTrainer,
modules/module/LoRAModule.py: `DoRAModule`, with its defaults.  (4) github.com/ostris/ai-toolkit,
toolkit/models/DoRA.py.

The formulas are the trainers' own.  Programs that draw may have others: ComfyUI's per-output branch
divides by the norm of W alone, and the first A1111 knows the input axis only.  An export of ours
for one version of such a program says in its header what its magnitudes mean.
"""

import json
from collections.abc import Mapping
from math import prod
from typing import Any, Literal, cast

import torch

from rasengan_xl.adapters.changes import Decomposed, Difference
from rasengan_xl.adapters.decomposition import (
    DECOMPOSITIONS_KEY,
    Decomposition,
    parse_decompositions,
)
from rasengan_xl.adapters.reading.faults import fault, shown
from rasengan_xl.adapters.reading.layer_keys import LayerKeys
from rasengan_xl.adapters.reading.raw import RawAdapter
from rasengan_xl.adapters.reading.roles import MAGNITUDES, Role

Axis = Literal["output", "input"]
_AXES: tuple[Axis, ...] = ("input", "output")

_SAFE_NORM = torch.finfo(torch.float32).eps


def find_axes(
    raw: RawAdapter, layers: Mapping[str, LayerKeys]
) -> tuple[dict[str, Axis], tuple[str, ...]]:
    """Find the axis of every layer's magnitudes, and what to note about it.

    A vector without axes on a square weight could lie along either.  It is read as the same
    file's other vectors, which a trainer makes alike, or as the header says, or not at all.

    Raises:
        AdapterError: Magnitudes do not fit their layer, or nothing tells their axis.
    """
    axes: dict[str, Axis] = {}
    unclear: list[str] = []
    for name, layer in layers.items():
        if (role := magnitude_role(layer)) is None:
            continue
        axis = _axis_of_shape(raw, layer, role)
        if axis is None:
            unclear.append(name)
        else:
            axes[name] = axis
    if not unclear:
        return axes, ()
    axis, why = _tell_axis(raw, axes, unclear[0])
    return {**axes, **dict.fromkeys(unclear, axis)}, (
        f"{len(unclear):,} square layers have magnitudes without an axis, read as {axis} ({why})",
    )


def magnitude_role(layer: LayerKeys) -> Role | None:
    """Return the role of a layer's magnitudes, if it has any."""
    return next((role for role in MAGNITUDES if role in layer.names), None)


def decompose(raw: RawAdapter, layer: LayerKeys, direction: Difference, axis: Axis) -> Decomposed:
    """Make a DoRA of a weight change and its magnitudes.

    Raises:
        AdapterError: It is ai-toolkit's, scaled: its norm leaves the scale out, which is no DoRA.
    """
    role = magnitude_role(layer)
    assert role is not None
    if role == "magnitude_unscaled" and direction.scale != 1:
        raise fault(
            raw.file,
            f"{shown(layer.layer)} is scaled by {direction.scale:g}, but ai-toolkit's DoRA takes "
            "its norm without the scale; only its files with alpha = rank can be read",
        )
    meaning = _stated_meaning(raw, axis) or Decomposition(
        axis=axis, epsilon=_SAFE_NORM if role == "magnitude" else 0.0
    )
    return Decomposed(
        direction=direction,
        magnitude=raw.read(layer.names[role]).flatten(),
        axis=axis,
        norm_of=meaning.norm_of,
        epsilon=meaning.epsilon,
        stored=meaning.stored,
        precision=meaning.precision,
    )


def _stated_meaning(raw: RawAdapter, axis: Axis) -> Decomposition | None:
    """Return what an export of ours says of its magnitudes, which are for one program."""
    try:
        stated = parse_decompositions(raw.header.get(DECOMPOSITIONS_KEY, "[]"))
    except ValueError as error:
        raise fault(raw.file, f"{DECOMPOSITIONS_KEY} in its header is {error}") from error
    return next((each for each in stated if each.axis == axis), None)


def note_meanings(
    raw: RawAdapter, layers: Mapping[str, LayerKeys], axes: Mapping[str, Axis], form: str
) -> tuple[str, ...]:
    """Say how the magnitudes of other trainers than PEFT are understood."""
    foreign = [axis for name, axis in axes.items() if "magnitude" in layers[name].names]
    unscaled = any("magnitude_unscaled" in layer.names for layer in layers.values())
    notes: list[str] = []
    for axis in _AXES:
        if not (count := foreign.count(axis)):
            continue
        stated = _stated_meaning(raw, axis)
        who = f"as {form} trains it" if stated is None else "as its header says"
        norm_of = "base's own" if stated and stated.norm_of == "base" else "changed"
        notes.append(
            f"DoRA {who}: {count:,} layers with magnitudes per {axis}, over the norm of the "
            f"{norm_of} weight"
        )
    if unscaled:
        notes.append("DoRA as ai-toolkit trains it: magnitudes per output, with alpha = rank")
    return tuple(notes)


def _axis_of_shape(raw: RawAdapter, layer: LayerKeys, role: Role) -> Axis | None:
    """Tell the axis by the shape; None if it could be either."""
    name = layer.names[role]
    shape, (out, into) = raw.shape(name), layer.weight_shape[:2]
    length = prod(shape)
    if length not in (out, into) or max(shape, default=0) != length:
        raise _misfit(raw, layer, name)
    if role != "magnitude":
        if length != out:
            raise _misfit(raw, layer, name)
        return "output"
    if out != into:
        return "output" if length == out else "input"
    if len(shape) < 2:
        return None
    return "output" if shape[0] == length else "input"


def _misfit(raw: RawAdapter, layer: LayerKeys, name: str) -> Exception:
    return fault(
        raw.file,
        f"{shown(name)} is {list(raw.shape(name))}, which does not fit {shown(layer.layer)} of "
        f"{list(layer.weight_shape)}; give the base it was trained on",
    )


def _tell_axis(raw: RawAdapter, axes: Mapping[str, Axis], name: str) -> tuple[Axis, str]:
    match sorted(set(axes.values())):
        case [axis]:
            return axis, f"as the {len(axes):,} others"
        case _:
            pass
    if (told := _header_axis(raw)) is not None:
        return told, "as its header says"
    raise fault(
        raw.file,
        f"the magnitudes of {shown(name)} may be per output or per input, which nothing tells; "
        "save them as [n, 1] or [1, n]",
    )


def _header_axis(raw: RawAdapter) -> Axis | None:
    """Ask what LyCORIS (`wd_on_output`) and OneTrainer leave of their settings in the header."""
    for entry, key in (
        ("ss_network_args", "wd_on_output"),
        ("ot_config", "lora_decompose_output_axis"),
    ):
        try:
            settings: Any = json.loads(raw.header.get(entry, "{}"))
        except (ValueError, RecursionError):  # it only might have told
            continue
        if isinstance(settings, dict) and key in settings:
            told = cast("dict[str, Any]", settings)[key]
            return "output" if str(told).lower() in ("true", "1") else "input"
    return None
