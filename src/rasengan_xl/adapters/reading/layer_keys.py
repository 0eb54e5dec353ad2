"""The tensors of a file, sorted by the layer that they change."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from rasengan_xl.adapters.reading.faults import fault, shown
from rasengan_xl.adapters.reading.foreign_models import name_foreign_model
from rasengan_xl.adapters.reading.layer_names import LayerNames, Naming, Place
from rasengan_xl.adapters.reading.raw import RawAdapter
from rasengan_xl.adapters.reading.roles import Key, Role, other_method, take_apart
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.layers import ModelLayers

_NAMED = 3
"""How many names an error quotes."""
_TEXT_READERS = ("attn2.to_k", "attn2.to_v")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerKeys:
    """What a file holds for one layer."""

    layer: str
    """As in `sdxl.layers.ModelLayers`."""
    weight_shape: torch.Size
    names: dict[Role, str]
    """Of its tensors in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedKeys:
    """A file whose every name is understood."""

    naming: Naming
    prefixes: frozenset[str]
    """With which its names begin."""
    layers: Mapping[str, LayerKeys]


def sort_keys(raw: RawAdapter, layers: ModelLayers) -> SortedKeys:
    """Find the layer and the role of every tensor of a file.

    Raises:
        AdapterError: A name is not understood, its layer is not in the base model or not only
            there, the file mixes ways of naming, or holds something twice.
    """
    keys = [take_apart(name) for name in raw.stored]
    if unknown := [name for name, key in zip(raw.stored, keys, strict=True) if key is None]:
        raise _not_understood(raw, unknown, layers)
    known = LayerNames(layers)
    found = [(key, known.find(key.layer)) for key in keys if key]
    _refuse_homeless(raw, found, layers)
    _refuse_mixture(raw, found)
    sorted_: dict[str, LayerKeys] = {}
    for key, place in found:
        layer = place.layers[0]
        known_keys = sorted_.setdefault(
            layer, LayerKeys(layer=layer, weight_shape=layers.shapes[layer], names={})
        )
        if key.role in known_keys.names:
            twice = f"{shown(known_keys.names[key.role])} and {shown(key.name)}"
            raise fault(raw.file, f"changes one layer twice: {twice}; keep one of them")
        known_keys.names[key.role] = key.name
    prefixes = frozenset(place.prefix for _, place in found)
    return SortedKeys(naming=found[0][1].naming, prefixes=prefixes, layers=sorted_)


def refuse_other_files(raw: RawAdapter) -> None:
    """Refuse a file that holds something other than an adapter, whatever base it may be for.

    Raises:
        AdapterError: None of its names is an adapter's.
    """
    if error := _no_adapter(raw, [name for name in raw.stored if take_apart(name) is None]):
        raise error


def is_for_other_model(raw: RawAdapter, layers: ModelLayers) -> AdapterError | None:
    """Make the error that an adapter is for another kind of model, if it shows it."""
    widths = {shape[1] for name, shape in layers.shapes.items() if name.endswith(_TEXT_READERS)}
    if (model := name_foreign_model(raw, widths)) is None:
        return None
    return fault(raw.file, f"is for {model}, not for this base model; take an adapter made for it")


def _not_understood(raw: RawAdapter, names: list[str], layers: ModelLayers) -> AdapterError:
    if foreign := is_for_other_model(raw, layers):
        return foreign
    if error := _no_adapter(raw, names):
        return error
    counted = f"{len(names):,} of {len(raw.stored):,} names"
    for name in names:
        if method := other_method(name):
            what, remedy = method
            return fault(
                raw.file,
                f"{counted} are of what cannot be used here: {what} ({shown(name)}); {remedy}",
            )
    return fault(raw.file, f"{counted} are not understood: {_quote(names)}; fetch another version")


def _no_adapter(raw: RawAdapter, unknown: list[str]) -> AdapterError | None:
    if len(unknown) < len(raw.stored) or any(map(other_method, unknown)):
        return None
    return fault(
        raw.file,
        f"holds no adapter: none of its {len(unknown):,} names is one's, first "
        f"{shown(unknown[0])}; name a LoRA's .safetensors file",
    )


def _refuse_homeless(raw: RawAdapter, found: list[tuple[Key, Place]], layers: ModelLayers) -> None:
    homeless = [key for key, place in found if not place.layers]
    if homeless:
        names = list(dict.fromkeys(key.layer for key in homeless))
        raise is_for_other_model(raw, layers) or fault(
            raw.file,
            f"changes {len(names):,} layers that the base model has not: {_quote(names)}; "
            "give the base it was trained on",
        )
    for key, place in found:
        if len(place.layers) > 1:
            raise fault(
                raw.file,
                f"{shown(key.layer)} may mean {' or '.join(map(shown, place.layers[:2]))}; "
                "save the adapter with names that tell which",
            )


def _refuse_mixture(raw: RawAdapter, found: list[tuple[Key, Place]]) -> None:
    first_of: dict[Naming, str] = {}
    for key, place in found:
        first_of.setdefault(place.naming, key.name)
    if len(first_of) > 1:
        (one, first), (other, second) = list(first_of.items())[:2]
        raise fault(
            raw.file,
            f"mixes names of {one} ({shown(first, 60)}) and {other} ({shown(second, 60)}); "
            "save it with one program",
        )


def _quote(names: Iterable[str]) -> str:
    listed = list(names)
    more = ", ..." if len(listed) > _NAMED else ""
    return ", ".join(shown(name, 50) for name in listed[:_NAMED]) + more
