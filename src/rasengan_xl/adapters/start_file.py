"""The adapter that a run starts from: found, read, and told apart from what it was before."""

import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.files import begins_from_pure_noise, find_adapter
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.adapters.start_shape import UNET, given_shape, trainable_shape
from rasengan_xl.adapters.verification.kinds import list_kinds
from rasengan_xl.adapters.verification.outcomes import plural
from rasengan_xl.config.settings import AdapterSettings, RunSettings
from rasengan_xl.errors import AdapterError, RecipeError
from rasengan_xl.file_digests import file_digest
from rasengan_xl.sdxl.components import load_unet_shape
from rasengan_xl.sdxl.layers import list_layers
from rasengan_xl.sdxl.model_folder import ModelFolder, find_model
from rasengan_xl.whole_file import drafted_file

SHAPE_KEYS = ("rank", "alpha", "rank_stabilized", "decompose", "targets", "layer_shapes")
"""What the file decides."""
_FROM_PURE_NOISE = (
    "the file was trained with zero terminal SNR, and this run is not: --set "
    "objective.zero_terminal_snr=true"
)


def settle_start(settings: RunSettings, asked: Collection[str] = ()) -> RunSettings:
    """Give settings the shape and digest of the adapter that they start from, if any.

    Settings that have the digest already are left as they are.

    Args:
        settings: As the recipe has them.
        asked: Dotted keys that the user has set by hand: where they contradict the file, they are
            refused, while a recipe gives way to it.

    Raises:
        AdapterError: The file is none, does not fit the base model, or has changed.
        RecipeError: The user asks for another shape than the file's.
    """
    if settings.adapter.start_from is None or settings.adapter.start_digest is not None:
        return settings
    model = find_model(settings.base_model, settings.base_revision)
    contents, digest = read_start(settings, model)
    find_shape = given_shape if settings.is_given else trainable_shape
    shaped = find_shape(contents, settings.adapter, load_unet_shape(model))
    _refuse_other_shape(settings.adapter, shaped, asked)
    adapter = AdapterSettings.model_validate({**shaped.model_dump(), "start_digest": digest})
    return settings.model_copy(update={"adapter": adapter})


def read_start(settings: RunSettings, model: ModelFolder) -> tuple[AdapterContents, str]:
    """Read the adapter that a run starts from.

    Returns:
        What is in it, of which changes to text encoders are left out if the run is to train on
        and the settings say so; and the file's SHA-256.

    Raises:
        AdapterError: The file is none, does not fit the base model, changes what cannot be
            trained, or is not the one that the settings were settled with.
    """
    adapter = settings.adapter
    assert adapter.start_from is not None
    file = find_adapter(Path(adapter.start_from))
    digest = _digest(file)
    if adapter.start_digest not in (None, digest):
        raise AdapterError(
            f"{file}: is not what it was when this run was planned (SHA-256 was "
            f"{adapter.start_digest[:12]}..., is {digest[:12]}...); restore it, or start anew with "
            "another --out"
        )
    contents = read_adapter(file, list_layers(model))
    if settings.objective.zero_terminal_snr is not True and begins_from_pure_noise(file):
        contents = replace(contents, notes=(*contents.notes, _FROM_PURE_NOISE))
    return (contents if settings.is_given else _leave_text_out(contents, adapter)), digest


def copy_start(settings: RunSettings, to: Path) -> None:
    """Copy the adapter's file as it is.

    Raises:
        AdapterError: It cannot be read.
        UnwritableError: The copy cannot be written.
    """
    assert settings.adapter.start_from is not None
    file = find_adapter(Path(settings.adapter.start_from))
    with drafted_file(to) as draft, file.open("rb") as source:
        shutil.copyfileobj(source, draft)


def describe_given(contents: AdapterContents) -> str:
    """Say in a few words what an adapter is: its file, form, kinds and size."""
    kinds = (
        f"{each.kind} on {plural(each.layers, 'layer')} of {each.part}"
        + (f", rank {', '.join(map(str, each.ranks))}" if each.ranks else "")
        for each in list_kinds(contents)
    )
    return f"{contents.source.name} ({contents.form}): {'; '.join(kinds)}"


def _digest(file: Path) -> str:
    try:
        return file_digest(file)
    except OSError as error:
        raise AdapterError(
            f"{file}: cannot be read ({error.strerror}); make it readable"
        ) from error


def _leave_text_out(contents: AdapterContents, settings: AdapterSettings) -> AdapterContents:
    own = {name: each for name, each in contents.changes.items() if name.startswith(UNET)}
    text = len(contents.changes) - len(own)
    if not own:
        raise AdapterError(
            f"{contents.source}: does not change the UNet, which alone is trained; start from "
            "another adapter"
        )
    if text and settings.start_text == "refuse":
        raise AdapterError(
            f"{contents.source}: changes {plural(text, 'layer')} of the text encoders, too, and "
            "training adapts the UNet alone: leave them out by --set adapter.start_text=leave-out"
        )
    note = (
        (f"its changes to {plural(text, 'layer')} of the text encoders are left out",)
        if text
        else ()
    )
    return replace(contents, changes=own, notes=(*contents.notes, *note))


def _refuse_other_shape(
    wanted: AdapterSettings, found: AdapterSettings, asked: Collection[str]
) -> None:
    for key in SHAPE_KEYS:
        here, there = getattr(wanted, key), getattr(found, key)
        if f"adapter.{key}" in asked and here != there:
            raise RecipeError(
                f"--set adapter.{key}: is {here!r}, but {wanted.start_from} has {there!r}, with "
                "which training goes on: leave it out, or export the file in another shape first"
            )
