"""The UNet of SDXL base 1.0 as a shape: to count and to measure without its weights."""

from typing import Any

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

UNET_CONFIG: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
TOKENS = 77
POOLED_WIDTH = 1280


def build_full_size_unet() -> UNet2DConditionModel:
    """Build the UNet, with random weights or, under `torch.device("meta")`, with none."""
    return UNet2DConditionModel(**UNET_CONFIG)
