"""How many floating-point operations a training step takes, counted on tensors without values."""

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.sdxl.components import explaining
from rasengan_xl.sdxl.full_size import TOKENS
from rasengan_xl.sdxl.model_folder import ModelFolder


def count_step_flops(
    unet: UNet2DConditionModel, model: ModelFolder, settings: RunSettings
) -> float:
    """Count the operations of one optimizer step of one process: forward and backward.

    It is the model's arithmetic, whatever the base is stored in: recomputed activations and the
    unpacking of NF4 weights are not counted, as in "model FLOPs" (arXiv:2204.02311, appendix B).
    Pictures are taken to be square.

    Args:
        unet: Without values, on the device `meta`, its adapter attached.
        model: Where the shape of the VAE is told.
        settings: Size of a step.
    """
    shape: Any = unet.config
    batch = settings.training.batch_size
    side = settings.dataset.resolution // _read_latent_share(model)
    pooled = shape.projection_class_embeddings_input_dim - 6 * shape.addition_time_embed_dim
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        predicted = unet(
            torch.empty(batch, shape.in_channels, side, side),
            torch.empty(batch, dtype=torch.long),
            torch.empty(batch, TOKENS, shape.cross_attention_dim),
            added_cond_kwargs={
                "text_embeds": torch.empty(batch, pooled),
                "time_ids": torch.empty(batch, 6, dtype=torch.long),
            },
        ).sample
        predicted.sum().backward()
    return float(counter.get_total_flops()) * settings.training.accumulation


def _read_latent_share(model: ModelFolder) -> int:
    """Return by how much the VAE shrinks a picture's sides."""
    with explaining(model, "vae"):
        kind: Any = AutoencoderKL
        return 2 ** (len(kind.load_config(model.path, subfolder="vae")["block_out_channels"]) - 1)
