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


_TEXT_SHAPES: tuple[dict[str, Any], ...] = (
    {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
        "hidden_act": "quick_gelu",
    },
    {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": POOLED_WIDTH,
        "hidden_act": "gelu",
    },
)
TEXT_CONFIGS = tuple(
    {**shape, "vocab_size": 49408, "max_position_embeddings": TOKENS} for shape in _TEXT_SHAPES
)
"""Of its two text encoders: CLIP ViT-L/14 and OpenCLIP ViT-bigG/14."""

VAE_CONFIG: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
}
