"""Load the parts of an SDXL, one at a time."""

from collections.abc import Collection, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from rasengan_xl.config.base_precisions import BasePrecision
from rasengan_xl.errors import ModelError
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import TOKENIZERS, ModelFolder
from rasengan_xl.sdxl.quantization import quantize

Module = TypeVar("Module", bound=nn.Module)

_UNLOADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    SafetensorError,
)


def load_tokenizers(model: ModelFolder) -> tuple[CLIPTokenizer, CLIPTokenizer]:
    """Load both tokenizers."""
    with explaining(model, "tokenizer"):
        kind: Any = CLIPTokenizer
        first, second = (kind.from_pretrained(model.path, subfolder=p) for p in TOKENIZERS)
    return first, second


def load_text_encoders(
    model: ModelFolder, compute: Compute
) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Load both text encoders, frozen."""
    with explaining(model, "text_encoder"):
        first = CLIPTextModel.from_pretrained(
            **_weights(model, "text_encoder"), dtype=compute.dtype
        )
        second = CLIPTextModelWithProjection.from_pretrained(
            **_weights(model, "text_encoder_2"), dtype=compute.dtype
        )
    return _frozen(first, compute.device), _frozen(second, compute.device)


def load_vae(model: ModelFolder, device: torch.device) -> AutoencoderKL:
    """Load the VAE, frozen, in float32: SDXL's overflows in float16.

    Raises:
        ModelError: Its latents want a mean and deviation per channel, not one factor.
    """
    with explaining(model, "vae"):
        vae = AutoencoderKL.from_pretrained(**_weights(model, "vae"), torch_dtype=torch.float32)
    config: Any = vae.config
    if config.latents_mean is not None or config.latents_std is not None:
        raise ModelError(
            f"{model.path}: its VAE scales latents by latents_mean and latents_std (Playground 2.5 "
            "does), SDXL's by scaling_factor alone; give an SDXL base model"
        )
    return _frozen(vae, device)


def load_scaling_factor(model: ModelFolder) -> float:
    """Return what the model's VAE multiplies latents by, without loading its weights."""
    with explaining(model, "vae"):
        kind: Any = AutoencoderKL
        return float(kind.load_config(model.path, subfolder="vae")["scaling_factor"])


def load_unet(
    model: ModelFolder,
    compute: Compute,
    base_precision: BasePrecision,
    held_back: Collection[str] = (),
) -> UNet2DConditionModel:
    """Load the UNet, frozen.

    Args:
        model: Where it lies.
        compute: Device and precision.
        base_precision: How its weights are stored.
        held_back: Linear layers whose weights stay in main memory.
    """
    with explaining(model, "unet"):
        unet = UNet2DConditionModel.from_pretrained(
            **_weights(model, "unet"), torch_dtype=compute.dtype
        )
    quantize(unet, compute, base_precision, held_back)
    return _frozen(unet, compute.device)


def load_unet_shape(model: ModelFolder) -> UNet2DConditionModel:
    """Build the UNet without weights, to look at its layers."""
    with explaining(model, "unet"), torch.device("meta"):
        kind: Any = UNet2DConditionModel
        return kind.from_config(kind.load_config(model.path, subfolder="unet"))


@contextmanager
def explaining(model: ModelFolder, part: str) -> Generator[None]:
    """Turn a library's complaint about a broken folder into one line that names the part."""
    try:
        yield
    except _UNLOADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(
            f"{model.path}: {part} cannot be loaded ({reason}); fetch the model again"
        ) from error


def _frozen(module: Module, device: torch.device) -> Module:
    """Move a part to its device, to be used and not trained."""
    part: Any = module.requires_grad_(requires_grad=False).eval()
    return part.to(device)


def _weights(model: ModelFolder, part: str) -> dict[str, Any]:
    return {
        "pretrained_model_name_or_path": model.path,
        "subfolder": part,
        "variant": model.weights_variant(part),
        "use_safetensors": True,
    }
