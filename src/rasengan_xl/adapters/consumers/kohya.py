"""What github.com/kohya-ss/sd-scripts and LyCORIS (github.com/KohakuBlueleaf) make of a file."""

from pathlib import Path

from torch.nn import functional

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

_ENDINGS = ("lora_down.weight", "lora_up.weight", "alpha")
_DECOMPOSED_ENDINGS = (*_ENDINGS, "dora_scale")
_TEXT_CLASSES = (".self_attn.", ".mlp.")
"""Its scripts look into the classes CLIPAttention and CLIPMLP."""
_UNET_CLASSES = (".attentions.", ".resnets.", ".downsamplers.", ".upsamplers.")
"""And into Transformer2DModel, ResnetBlock2D, Downsample2D and Upsample2D."""


def kohya_changes(
    file: Path, layers: ModelLayers, *, decomposed: bool = False
) -> dict[str, Evaluate]:
    """Return what each layer's weight is changed by, as a function of the base's weight.

    Args:
        file: The file.
        layers: Of the base model.
        decomposed: As LyCORIS reads it, which knows DoRA; kohya's own modules do not.

    Raises:
        OutputError: A tensor would be passed over.
    """
    content = TensorFile(file)
    endings = _DECOMPOSED_ENDINGS if decomposed else _ENDINGS
    return {
        layer: _Layer(content, names)
        for layer, names in group_by_layer(file, _names(layers), endings).items()
    }


class _Layer(StoredLayer):
    def __call__(self, weight: Weight) -> Weight:
        down, up = (self.read(ending, weight) for ending in _ENDINGS[:2])
        scale = self.read("alpha", weight).item() / down.shape[0]
        if weight.dim() == 2:
            added = up @ down
        else:  # the factors are convolutions: one after the other is one convolution
            added = functional.conv2d(down.permute(1, 0, 2, 3), up).permute(1, 0, 2, 3)
        added = scale * added
        if "dora_scale" not in self:
            return added
        whole = weight + added
        norm = row_norms(whole.reshape(len(whole), -1)) + FLOAT32_EPSILON
        per_output = (-1, *(1,) * (weight.dim() - 1))
        gain = self.read("dora_scale", weight).reshape(per_output) / norm.reshape(per_output)
        return whole * gain - weight


def _names(layers: ModelLayers) -> dict[str, str]:
    named: dict[str, str] = {}
    for layer in layers.shapes:
        part, _, inside = layer.partition(".")
        if part == "unet" and any(name in layer for name in _UNET_CLASSES):
            named["lora_unet_" + layers.sgm_names[layer].replace(".", "_")] = layer
        elif part != "unet" and any(name in layer for name in _TEXT_CLASSES):
            number = "2" if part.endswith("_2") else "1"
            named[f"lora_te{number}_" + inside.replace(".", "_")] = layer
    return named
