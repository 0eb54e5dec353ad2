"""The loss SDXL was trained with, so that fine-tuning continues the same task."""

from dataclasses import dataclass, fields

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor

from rasengan_xl.sdxl.components import NoiseSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentBatch:
    """Encoded pictures and captions, and the noise they are drowned in."""

    latents: Float[Tensor, "batch channel height width"]
    """Scaled VAE latents."""
    noise: Float[Tensor, "batch channel height width"]
    timesteps: Int[Tensor, " batch"]
    prompts: Float[Tensor, "batch token text_width"]
    pooled_prompts: Float[Tensor, "batch pooled_width"]
    size_numbers: Int[Tensor, "batch 6"]
    """Original height and width, crop top and left, target height and width, in pixels.
    Integers until the UNet embeds them: bfloat16 would round 1023 to 1024."""

    def to(self, device: torch.device) -> "LatentBatch":
        """Copy every tensor to a device."""
        return LatentBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def denoising_losses(
    unet: UNet2DConditionModel, batch: LatentBatch, schedule: NoiseSchedule
) -> Float[Tensor, " batch"]:
    """Return each picture's mean squared error of prediction, in float32.

    The target is the noise (L_simple, arXiv:2006.11239, eq. 14) or the velocity
    (arXiv:2202.00512, appendix D), whichever the model was trained to predict.
    """
    alpha_bars = schedule.alpha_bars.to(batch.latents.device)[batch.timesteps].view(-1, 1, 1, 1)
    signal, spread = alpha_bars.sqrt(), (1 - alpha_bars).sqrt()
    noised = signal * batch.latents + spread * batch.noise  # arXiv:2006.11239, eq. 4
    if schedule.prediction_type == "epsilon":
        target = batch.noise
    else:
        target = signal * batch.noise - spread * batch.latents
    predicted = unet(
        noised.to(unet.dtype),
        batch.timesteps,
        batch.prompts.to(unet.dtype),
        added_cond_kwargs={
            "text_embeds": batch.pooled_prompts.to(unet.dtype),
            "time_ids": batch.size_numbers,
        },
    ).sample
    return (predicted.float() - target).square().mean(dim=(1, 2, 3))
