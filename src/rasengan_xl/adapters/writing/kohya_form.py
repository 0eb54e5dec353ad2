"""The form of github.com/kohya-ss/sd-scripts: `lora_unet_<layer>.lora_down.weight`, `.alpha`.

Layers of the UNet have Stability's names.  ComfyUI and A1111 read diffusers' names, too, but A1111
looks for the upsampling convolutions of SDXL in the wrong place then, and kohya's own loader
skips them all unless it is told to convert: Stability's are the names that all three find.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rasengan_xl.adapters.changes import Decomposed
from rasengan_xl.adapters.writing.plain import Expressed
from rasengan_xl.adapters.writing.tensors import describe, factors_of
from rasengan_xl.errors import OutputError
from rasengan_xl.sdxl.layers import ModelLayers

_PREFIXES = {"text_encoder.": "lora_te1_", "text_encoder_2.": "lora_te2_"}


def kohya_tensors(changes: Mapping[str, Expressed], layers: ModelLayers) -> dict[str, Tensor]:
    """Name the tensors of an adapter as kohya's scripts do.

    Args:
        changes: By layer.
        layers: Of the base model.

    Raises:
        OutputError: A layer has no place in such a file.
    """
    tensors: dict[str, Tensor] = {}
    for layer, change in changes.items():
        name, shape = kohya_name(layer, layers), layers.shapes[layer]
        factors = factors_of(change, shape)
        tensors[f"{name}.lora_down.weight"] = factors.down
        tensors[f"{name}.lora_up.weight"] = factors.up
        tensors[f"{name}.alpha"] = torch.tensor(describe(change).unstabilized_alpha)
        if isinstance(change, Decomposed):
            tensors[f"{name}.dora_scale"] = _dora_scale(change, shape)
    return tensors


def kohya_name(layer: str, layers: ModelLayers) -> str:
    """Return what a layer is called, without what is said of it.

    Raises:
        OutputError: It has no name there.
    """
    if layer in layers.sgm_names:
        return f"lora_unet_{layers.sgm_names[layer]}".replace(".", "_")
    for part, prefix in _PREFIXES.items():
        if layer.startswith(f"{part}text_model."):
            return f"{prefix}{layer.removeprefix(part)}".replace(".", "_")
    raise OutputError(
        f"{layer}: the programs that read this form cannot change it; export --to diffusers, or "
        "--to merged"
    )


def _dora_scale(change: Decomposed, shape: Any) -> Tensor:
    """Shape magnitudes so that no program takes their axis for the other."""
    others = (1,) * (len(shape) - 2)
    along = (-1, 1, *others) if change.axis == "output" else (1, -1, *others)
    return change.magnitude.float().reshape(along)
