"""Recognise how an adapter's file names its weights, and read it."""

from pathlib import Path

from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.reading.peft_form import is_peft_form, parse_peft_form
from rasengan_xl.adapters.reading.raw import open_adapter
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.layers import ModelLayers


def read_adapter(file: Path, layers: ModelLayers) -> AdapterContents:
    """Read an adapter of any trainer.

    Args:
        file: A safetensors file.
        layers: Of the base model that it is for.

    Raises:
        AdapterError: The file is damaged, or a weight in it has no place in the base model.
    """
    raw = open_adapter(file)
    if not is_peft_form(raw):
        raise AdapterError(f"{file}: holds no adapter; name a LoRA's .safetensors file")
    changes = parse_peft_form(raw)
    for layer in changes:
        if layer not in layers.shapes:
            raise AdapterError(f"{file}: {layer} is no layer of the base model; give its own base")
    return AdapterContents(source=file, form="diffusers", changes=changes, header=raw.header)
