"""What diffusers makes of a file, through PEFT (github.com/huggingface/peft, tuners/lora)."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rasengan_xl.adapters.changes import Weight
from rasengan_xl.adapters.consumers.evaluation import (
    Evaluate,
    StoredLayer,
    group_by_layer,
    passed_over,
    row_norms,
)
from rasengan_xl.sdxl.layers import ADAPTED_PARTS, ModelLayers
from rasengan_xl.tensor_file import TensorFile

_ENDINGS = ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")


def peft_changes(file: Path, layers: ModelLayers) -> dict[str, Evaluate]:
    """Return what each layer's weight is changed by, as a function of the base's weight.

    Raises:
        OutputError: A tensor's name means nothing to PEFT.
    """
    content = TensorFile(file)
    described: dict[str, Any] = json.loads(content.header["lora_adapter_metadata"])
    named = {name: name for name in layers.shapes}
    grouped = group_by_layer(file, named, _ENDINGS)
    _refuse_dropped(grouped)
    return {
        layer: _Layer(content, names, _config_of(described, layer))
        for layer, names in grouped.items()
    }


def _refuse_dropped(grouped: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse the magnitudes that transformers passes over when it loads a text encoder's part."""
    for layer, names in grouped.items():
        if _ENDINGS[2] in names and not layer.startswith("unet."):
            raise passed_over(names[_ENDINGS[2]])


class _Layer(StoredLayer):
    def __init__(self, content: TensorFile, names: dict[str, str], config: dict[str, Any]) -> None:
        super().__init__(content, names)
        self._config = config

    def __call__(self, weight: Weight) -> Weight:
        down, up = (self.read(ending, weight) for ending in _ENDINGS[:2])
        rank, alpha = self._config["r"], self._config["lora_alpha"]
        assert down.shape[0] == rank, "PEFT makes factors of the rank that the header tells"
        scale = alpha / (math.sqrt(rank) if self._config["use_rslora"] else rank)
        added = scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
        if not self._config["use_dora"]:
            return added
        whole = weight + added
        norm = row_norms(whole.flatten(1))
        gain = self.read("lora_magnitude_vector", weight).flatten() / norm
        # As its forward adds it to the base's output: (g - 1) W x + g s B A x.
        by_row = gain.reshape(-1, *(1,) * (weight.dim() - 1))
        return (by_row - 1) * weight + by_row * added


def _config_of(described: dict[str, Any], layer: str) -> dict[str, Any]:
    """Collect what `LoraConfig` says of a layer; patterns match the end of its path."""
    part = next(part for part in ADAPTED_PARTS if layer.startswith(f"{part}."))
    path = layer.removeprefix(f"{part}.")
    config = {
        key.removeprefix(f"{part}."): value
        for key, value in described.items()
        if key.startswith(f"{part}.")
    }
    for key, patterns in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        for pattern, value in config[patterns].items():
            if re.match(rf"(.*\.)?({pattern})$", path):
                config[key] = value
                break
    return config
