"""What A1111's WebUI makes of a file (AUTOMATIC1111/stable-diffusion-webui, extensions/Lora)."""

import re
from pathlib import Path

from rasengan_xl.adapters.changes import Weight
from rasengan_xl.adapters.consumers.evaluation import (
    Evaluate,
    StoredLayer,
    group_by_layer,
    row_norms,
)
from rasengan_xl.sdxl.layers import ModelLayers
from rasengan_xl.tensor_file import TensorFile

_ENDINGS = ("lora_up.weight", "lora_down.weight", "alpha", "dora_scale")
_SECOND_ENCODER = re.compile(
    r"text_model\.encoder\.layers\.(\d+)\.(self_attn\.(?:[qkv]|out)_proj|mlp\.fc[12])"
)
"""What it finds in OpenCLIP's form of the second text encoder, which it uses."""


def a1111_changes(file: Path, layers: ModelLayers) -> dict[str, Evaluate]:
    """Return what each layer's weight is changed by, as a function of the base's weight.

    Raises:
        OutputError: A tensor would be passed over.
    """
    content = TensorFile(file)
    return {
        layer: _Layer(content, names)
        for layer, names in group_by_layer(file, _names(layers), _ENDINGS).items()
    }


class _Layer(StoredLayer):
    def __call__(self, weight: Weight) -> Weight:
        up, down = (self.read(ending, weight) for ending in _ENDINGS[:2])
        rank = down.shape[0]
        change = (up.reshape(up.shape[0], -1) @ down.reshape(rank, -1)).reshape(weight.shape)
        if "alpha" in self:
            change = change * (self.read("alpha", weight).item() / rank)
        if "dora_scale" not in self:
            return change
        merged = change + weight
        by_input = row_norms(merged.transpose(0, 1).reshape(weight.shape[1], -1))
        norm = by_input.reshape(weight.shape[1], *(1,) * (weight.dim() - 1)).transpose(0, 1)
        return merged * (self.read("dora_scale", weight) / norm) - weight


def _names(layers: ModelLayers) -> dict[str, str]:
    named: dict[str, str] = {}
    for layer in layers.shapes:
        part, _, inside = layer.partition(".")
        flat = inside.replace(".", "_")
        if part == "unet":
            named["lora_unet_" + layers.sgm_names[layer].replace(".", "_")] = layer
        elif part == "text_encoder":
            named[f"lora_te1_{flat}"] = layer
        elif _SECOND_ENCODER.fullmatch(inside):
            named[f"lora_te2_{flat}"] = layer
    return named
