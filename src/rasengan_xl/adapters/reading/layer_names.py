"""Which layer of a base model a trainer's name means."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rasengan_xl.sdxl.layers import ModelLayers

Naming = Literal["kohya", "LyCORIS", "OneTrainer", "diffusers", "ComfyUI", "PEFT"]
"""Whose way of naming layers: those of one file have one."""

_UNET, _FIRST_TEXT, _SECOND_TEXT = "unet", "text_encoder", "text_encoder_2"
_ANY_PART = ""

_PREFIXES: dict[str, tuple[Naming, str]] = {
    # github.com/kohya-ss/sd-scripts, networks/lora.py: LORA_PREFIX_UNET, LORA_PREFIX_TEXT_ENCODER1
    "lora_unet_": ("kohya", _UNET),
    "lora_te1_": ("kohya", _FIRST_TEXT),
    "lora_te2_": ("kohya", _SECOND_TEXT),
    "lora_te_": ("kohya", _FIRST_TEXT),
    # github.com/KohakuBlueleaf/LyCORIS, lycoris/wrapper.py: LORA_PREFIX; thus from SimpleTuner
    "lycoris_": ("LyCORIS", _UNET),
    # github.com/Nerogar/OneTrainer, modules/util/convert/lora/convert_sdxl_lora.py: as it trains,
    # and in the form of the Open Model Initiative, which shares "unet." with diffusers
    "lora_unet.": ("OneTrainer", _UNET),
    "lora_te1.": ("OneTrainer", _FIRST_TEXT),
    "lora_te2.": ("OneTrainer", _SECOND_TEXT),
    "clip_l.": ("diffusers", _FIRST_TEXT),
    "clip_g.": ("diffusers", _SECOND_TEXT),
    # diffusers, loaders/lora_pipeline.py: `unet_name`, `text_encoder_name`
    "unet.": ("diffusers", _UNET),
    "text_encoder.": ("diffusers", _FIRST_TEXT),
    "text_encoder_2.": ("diffusers", _SECOND_TEXT),
    # github.com/comfyanonymous/ComfyUI, comfy/lora.py: "generic lora format"
    "diffusion_model.": ("ComfyUI", _UNET),
    "text_encoders.clip_l.transformer.": ("ComfyUI", _FIRST_TEXT),
    "text_encoders.clip_g.transformer.": ("ComfyUI", _SECOND_TEXT),
    # PEFT, peft/utils/save_and_load.py: its own `save_pretrained`, which knows no parts
    "base_model.model.": ("PEFT", _ANY_PART),
    # diffusers before 0.15 saved the UNet's attention processors alone
    "": ("diffusers", _UNET),
}
_TEXT_MODEL = "text_model."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a name leads."""

    naming: Naming
    prefix: str
    layers: tuple[str, ...]
    """Of the base model: one, none, or several that share the name."""


class LayerNames:
    """Every name that a layer of a base model goes by."""

    def __init__(self, layers: ModelLayers) -> None:
        self._known: dict[tuple[str, str], set[str]] = {}
        for layer in layers.shapes:
            part, _, inside = layer.partition(".")
            for name in _names_inside(inside, layers.sgm_names.get(layer)):
                self._known.setdefault((part, _flat(name)), set()).add(layer)

    def find(self, name: str) -> Place:
        """Find the layer that a trainer's name means, by looking it up, never by guessing."""
        prefix = next(prefix for prefix in _PREFIXES if name.startswith(prefix))
        naming, part = _PREFIXES[prefix]
        inside = _flat(name.removeprefix(prefix))
        parts = (part,) if part else (_UNET, _FIRST_TEXT, _SECOND_TEXT)
        found = {layer for each in parts for layer in self._known.get((each, inside), ())}
        return Place(naming, prefix, tuple(sorted(found)))


def _names_inside(ours: str, sgm: str | None) -> Iterator[str]:
    yield ours
    if sgm:
        yield sgm
    if ours.startswith(_TEXT_MODEL):  # transformers 5 has left it out of its first encoder
        yield ours.removeprefix(_TEXT_MODEL)


def _flat(name: str) -> str:
    return name.replace(".", "_")
