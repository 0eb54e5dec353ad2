"""What github.com/comfyanonymous/ComfyUI makes of a file (comfy/lora.py, comfy/weight_adapter)."""

from collections.abc import Mapping
from pathlib import Path

import torch

from rasengan_xl.adapters.changes import Weight
from rasengan_xl.adapters.consumers.evaluation import (
    Evaluate,
    StoredLayer,
    group_by_layer,
    row_norms,
)
from rasengan_xl.adapters.consumers.targets import FLOAT32_EPSILON
from rasengan_xl.sdxl.layers import ModelLayers
from rasengan_xl.tensor_file import TensorFile

_ENDINGS = ("lora_up.weight", "lora_down.weight", "alpha", "dora_scale")
_TEXT_MODULES = (
    "mlp.fc1",
    "mlp.fc2",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.out_proj",
)


def comfyui_changes(
    file: Path, layers: ModelLayers, *, output_norm_of_changed: bool = False
) -> dict[str, Evaluate]:
    """Return what each layer's weight is changed by, as a function of the base's weight.

    Args:
        file: The file.
        layers: Of the base model.
        output_norm_of_changed: Whether DoRA by output divides by the norm of W + sBA, as from its
            pull request 15458 on, instead of by that of W.

    Raises:
        OutputError: A tensor would be passed over.
    """
    content = TensorFile(file)
    return {
        layer: _Layer(content, names, output_norm_of_changed=output_norm_of_changed)
        for layer, names in group_by_layer(file, _names(layers), _ENDINGS).items()
    }


class _Layer(StoredLayer):
    def __init__(
        self, content: TensorFile, names: Mapping[str, str], *, output_norm_of_changed: bool
    ) -> None:
        super().__init__(content, names)
        self._output_norm_of_changed = output_norm_of_changed

    def __call__(self, weight: Weight) -> Weight:
        up, down = (self.read(ending, weight).flatten(1) for ending in _ENDINGS[:2])
        scale = self.read("alpha", weight).item() / down.shape[0] if "alpha" in self else 1.0
        difference = scale * torch.mm(up, down).reshape(weight.shape)
        if "dora_scale" not in self:
            return difference
        magnitude, changed = self.read("dora_scale", weight), weight + difference
        by_output = magnitude.shape[0] == weight.shape[0]
        if by_output:
            measured = changed if self._output_norm_of_changed else weight
            rows = row_norms(measured.reshape(weight.shape[0], -1))
            norm = rows.reshape(-1, *(1,) * (weight.dim() - 1))
        else:
            columns = row_norms(changed.transpose(0, 1).reshape(weight.shape[1], -1))
            norm = columns.reshape(1, -1, *(1,) * (weight.dim() - 2))
        # No reshape of the magnitude: it is broadcast as it lies in the file.
        return changed * (magnitude / (norm + FLOAT32_EPSILON)) - weight


def _names(layers: ModelLayers) -> dict[str, str]:
    """List the names that it looks for: every weight of the UNet, six layers of a text block."""
    named: dict[str, str] = {}
    for layer in layers.shapes:
        if layer.startswith("unet."):
            named["lora_unet_" + layers.sgm_names[layer].replace(".", "_")] = layer
            named["lora_unet_" + layer.removeprefix("unet.").replace(".", "_")] = layer
        elif ".encoder.layers." in layer and layer.endswith(_TEXT_MODULES):
            part, _, inside = layer.partition(".")
            prefix = {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}[part]
            named[prefix + inside.replace(".", "_")] = layer
    return named
