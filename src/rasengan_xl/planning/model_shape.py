"""The shape of a base model: from its own files if they lie here, else that of SDXL base 1.0."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.planning.drawing_needs import ModelSize
from rasengan_xl.sdxl.components import explaining
from rasengan_xl.sdxl.full_size import TEXT_CONFIGS, UNET_CONFIG, VAE_CONFIG
from rasengan_xl.sdxl.model_folder import TEXT_ENCODERS, ModelFolder, find_model_at_hand

META, CUDA = torch.device("meta"), torch.device("cuda")


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What a base model consists of, without a single weight."""

    name: str
    """As the user called it."""
    is_known: bool
    """Whether it is the model's own; else SDXL base 1.0's, which most models share."""
    unet: dict[str, Any]
    vae: dict[str, Any]
    texts: tuple[dict[str, Any], ...]

    @cached_property
    def latent_share(self) -> int:
        """By how much the VAE shrinks a picture's sides."""
        return 2 ** (len(self.vae["block_out_channels"]) - 1)

    @cached_property
    def pooled_width(self) -> int:
        """Width of a caption's pooled state."""
        sizes = 6 * self.unet["addition_time_embed_dim"]
        return int(self.unet["projection_class_embeddings_input_dim"]) - sizes

    @cached_property
    def skeleton(self) -> UNet2DConditionModel:
        """The UNet as a shape to look at: nobody changes it."""
        return self.build_unet(torch.float32)

    def count_weights(self) -> ModelSize:
        """Count the weights of each part."""
        texts = self.build_text_encoders(torch.float32)
        return ModelSize(
            unet=_count(self.skeleton),
            text_encoders=sum(map(_count, texts)),
            vae=_count(self.build_vae()),
        )

    def build_unet(self, dtype: torch.dtype) -> UNet2DConditionModel:
        """Build the UNet on the meta device."""
        kind: Any = UNet2DConditionModel
        return cast("Any", _build(lambda: kind.from_config(self.unet), dtype))

    def build_vae(self) -> AutoencoderKL:
        """Build the VAE on the meta device, in float32 as it always computes."""
        kind: Any = AutoencoderKL
        return cast("Any", _build(lambda: kind.from_config(self.vae), torch.float32))

    def build_text_encoders(self, dtype: torch.dtype) -> list[nn.Module]:
        """Build both text encoders on the meta device."""
        from transformers import (  # noqa: PLC0415 - slow, and seldom needed
            CLIPTextConfig,
            CLIPTextModel,
            CLIPTextModelWithProjection,
        )

        kinds: tuple[Any, ...] = (CLIPTextModel, CLIPTextModelWithProjection)
        configs = [CLIPTextConfig(**config) for config in self.texts]
        return [
            _build(lambda kind=kind, config=config: kind(config), dtype)
            for kind, config in zip(kinds, configs, strict=True)
        ]


def find_shape(settings: RunSettings) -> ModelShape:
    """Find the shape of the base model that a run names, without asking the network.

    Raises:
        ModelError: It is a folder, and missing, incomplete or not an SDXL.
    """
    model = find_model_at_hand(settings.base_model, settings.base_revision)
    return read_shape(model) if model is not None else shape_of_sdxl(settings.base_model)


def shape_of_sdxl(name: str) -> ModelShape:
    """Return the shape of SDXL base 1.0, for a model that is not at hand."""
    return ModelShape(
        name=name, is_known=False, unet=UNET_CONFIG, vae=VAE_CONFIG, texts=TEXT_CONFIGS
    )


def read_shape(model: ModelFolder) -> ModelShape:
    """Read the shape of a model from its folder."""
    unet: Any = UNet2DConditionModel
    vae: Any = AutoencoderKL
    with explaining(model, "unet"):
        unet_config = unet.load_config(model.path, subfolder="unet")
    with explaining(model, "vae"):
        vae_config = vae.load_config(model.path, subfolder="vae")
    with explaining(model, "text_encoder"):
        texts = [
            json.loads((model.path / part / "config.json").read_text(encoding="utf-8"))
            for part in TEXT_ENCODERS
        ]
    return ModelShape(
        name=model.name, is_known=True, unet=unet_config, vae=vae_config, texts=tuple(texts)
    )


def _count(part: Any) -> int:
    return sum(weights.numel() for weights in part.parameters())


def _build(make: Any, dtype: torch.dtype) -> nn.Module:
    """Build a part in its precision: never in float32 first, which would count twice."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with META:
            part: nn.Module = make()
    finally:
        torch.set_default_dtype(default)
    return part.requires_grad_(requires_grad=False).eval()
