"""Recognise how an adapter's file names its weights, and read it."""

from pathlib import Path

from rasengan_xl.adapters.changes import Change
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.reading.alphas import find_alphas
from rasengan_xl.adapters.reading.factors import LayerFactors
from rasengan_xl.adapters.reading.layer_keys import SortedKeys, is_for_other_model, sort_keys
from rasengan_xl.adapters.reading.magnitudes import decompose, find_axes, note_meanings
from rasengan_xl.adapters.reading.raw import (
    RawAdapter,
    open_adapter,
    refuse_broken_numbers,
    refuse_whole_numbers,
)
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.layers import ModelLayers


def read_adapter(file: Path, layers: ModelLayers) -> AdapterContents:
    """Read an adapter of any trainer.

    Its tensors stay mapped: the file must not be written over while they are used.

    Args:
        file: A safetensors file.
        layers: Of the base model that it is for; `list_sdxl_layers()` if none is at hand.

    Raises:
        AdapterError: The file is damaged, or a weight in it has no place in the base model.
    """
    raw = open_adapter(file)
    keys = sort_keys(raw, layers)
    weights = [name for name in raw.stored if not name.endswith(".alpha")]
    refuse_whole_numbers(raw, weights)
    alphas = find_alphas(raw, keys)
    try:
        axes, axis_notes = find_axes(raw, keys.layers)
        changes: dict[str, Change] = {}
        for name, layer in keys.layers.items():
            change = LayerFactors(raw, layer).assemble(
                alphas.by_layer.get(name), rank_stabilized=name in alphas.rank_stabilized
            )
            decomposed = name in axes
            changes[name] = decompose(raw, layer, change, axes[name]) if decomposed else change
    except AdapterError as misfit:
        if foreign := is_for_other_model(raw, layers):
            raise foreign from misfit
        raise
    refuse_broken_numbers(raw, weights)
    form = _name_form(raw, keys)
    return AdapterContents(
        source=file,
        form=form,
        changes=changes,
        header=raw.header,
        notes=(
            *alphas.notes,
            *axis_notes,
            *note_meanings(raw, keys.layers, axes, form),
            *_note_text_encoder(keys),
        ),
    )


def _name_form(raw: RawAdapter, keys: SortedKeys) -> str:
    """Name the trainer, or the one whose names it uses."""
    roles = {role for layer in keys.layers.values() for role in layer.names}
    if "magnitude_unscaled" in roles or "ai-toolkit" in raw.header.get("software", ""):
        return "ai-toolkit"
    if any(key.startswith("ot_") for key in raw.header):
        return "OneTrainer"
    if keys.naming == "diffusers" and roles & {"alpha", "magnitude"}:
        return "OneTrainer"
    by_lycoris = raw.header.get("ss_network_module", "").startswith("lycoris")
    if by_lycoris or any(role.startswith(("hada_", "lokr_", "diff")) for role in roles):
        return "LyCORIS"
    return keys.naming


def _note_text_encoder(keys: SortedKeys) -> tuple[str, ...]:
    if "lora_te_" not in keys.prefixes:
        return ()
    return ("lora_te_ is taken to be the first text encoder, as diffusers does",)
