"""The layers of a base model that an adapter may sit on, known without reading a weight."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from rasengan_xl.sdxl.components import explaining, load_unet_shape
from rasengan_xl.sdxl.full_size import TEXT_CONFIGS, build_full_size_unet
from rasengan_xl.sdxl.model_folder import TEXT_ENCODERS, ModelFolder
from rasengan_xl.sdxl.sgm_names import sgm_layer_names

ADAPTED_PARTS = ("unet", *TEXT_ENCODERS)
_TEXT_MODEL = "text_model."
"""In the names of every published file; transformers 5 has left it out of its first encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLayers:
    """What an adapter for a base model can name."""

    shapes: Mapping[str, torch.Size]
    """Of the weight of each linear layer and convolution, by the layer's name, such as
    `unet.mid_block.attentions.0.proj_in` or `text_encoder.text_model.encoder...q_proj`."""
    sgm_names: Mapping[str, str]
    """Stability's names of the UNet's layers, by ours: `middle_block.1.proj_in`."""


def list_layers(model: ModelFolder) -> ModelLayers:
    """List the layers of a base model, from its configuration alone."""
    with explaining(model, "text_encoder"):
        configs = [
            cast("Any", CLIPTextConfig).from_pretrained(model.path, subfolder=part)
            for part in TEXT_ENCODERS
        ]
    return _list(load_unet_shape(model), configs)


def list_sdxl_layers() -> ModelLayers:
    """List the layers of SDXL itself, which any model of its shape has."""
    with torch.device("meta"):
        unet = build_full_size_unet()
    kind: Any = CLIPTextConfig
    return _list(unet, [kind(**config) for config in TEXT_CONFIGS])


def layer_modules(parts: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Find the linear layers and convolutions of loaded parts, by the names that files use.

    Args:
        parts: UNet and text encoders, by their folder's name.
    """
    return {
        f"{part}.{_file_name(part, name)}": module
        for part, root in parts.items()
        for name, module in _adaptable(root)
    }


def _list(unet: UNet2DConditionModel, configs: list[CLIPTextConfig]) -> ModelLayers:
    with torch.device("meta"):
        texts = (CLIPTextModel(configs[0]), CLIPTextModelWithProjection(configs[1]))
    parts: dict[str, nn.Module] = dict(zip(ADAPTED_PARTS, (unet, *texts), strict=True))
    shapes = {
        name: cast("torch.Tensor", module.weight).shape
        for name, module in layer_modules(parts).items()
    }
    theirs = {f"unet.{name}": sgm for name, sgm in sgm_layer_names(unet).items()}
    return ModelLayers(
        shapes=shapes, sgm_names={name: sgm for name, sgm in theirs.items() if name in shapes}
    )


def _adaptable(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    modules: dict[str, nn.Module] = dict(cast("Any", root).named_modules())
    for name, module in modules.items():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield name, module


def _file_name(part: str, name: str) -> str:
    inside = part in TEXT_ENCODERS and name.startswith("encoder.")
    return f"{_TEXT_MODEL}{name}" if inside else name
