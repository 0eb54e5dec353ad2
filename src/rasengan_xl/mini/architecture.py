"""The shape of mini SDXL: every part of SDXL, of the same class, at a size a CPU can train."""

from typing import Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from rasengan_xl.mini.world.portraits import PICTURE_SIZE

TEXT_WIDTH = 64
"""Width of each text encoder; the UNet attends to both side by side."""
TIME_WIDTH = 16
"""Width of the sinusoidal embedding of each of the six size numbers (SDXL: 256)."""
MAX_TOKENS = 77


def build_vae() -> AutoencoderKL:
    """Build the autoencoder with fresh weights: 64 px pictures, 16 x 16 x 4 latents."""
    kind: Any = AutoencoderKL  # its own types admit tuples of one element only
    return kind(
        block_out_channels=(24, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=PICTURE_SIZE,
        force_upcast=True,
    )


def build_unet() -> UNet2DConditionModel:
    """Build the UNet with fresh weights: 8.4 M parameters, attention at both resolutions.

    Widths are multiples of 64, the block size of NF4.
    """
    kind: Any = UNet2DConditionModel  # as above
    return kind(
        sample_size=PICTURE_SIZE // 4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 192),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        transformer_layers_per_block=(1, 1),
        attention_head_dim=(2, 6),  # diffusers' name for the number of heads: 32 channels each
        use_linear_projection=True,
        cross_attention_dim=2 * TEXT_WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=6 * TIME_WIDTH + TEXT_WIDTH,
        norm_num_groups=32,
    )


def build_text_encoders(
    vocabulary_size: int, start_id: int, end_id: int
) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Build both text encoders with fresh weights.

    Args:
        vocabulary_size: Number of tokens that the tokenizers know.
        start_id: Token that opens a caption.
        end_id: Token that closes a caption; its state becomes the pooled prompt.
    """

    def config(activation: str) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=vocabulary_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=2,
            max_position_embeddings=MAX_TOKENS,
            hidden_act=activation,
            bos_token_id=start_id,
            eos_token_id=end_id,
        )

    return CLIPTextModel(config("quick_gelu")), CLIPTextModelWithProjection(config("gelu"))


def build_scheduler() -> EulerDiscreteScheduler:
    """Build the noise schedule and sampler with SDXL base 1.0's own settings."""
    return EulerDiscreteScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        interpolation_type="linear",
        timestep_spacing="leading",
        steps_offset=1,
        use_karras_sigmas=False,
    )
