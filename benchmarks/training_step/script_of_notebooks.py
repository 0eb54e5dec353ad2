"""Training as the published notebooks do it (github.com/habibsnippets/Rasengan-XL, LoRA, 2025-11).

Written anew from the form of their loop: the UNet in fp16 with PEFT's layers by `get_peft_model`,
which keeps adapters in float32; gradient checkpointing; in every step the VAE encodes pixels in
float32 and both text encoders run in fp16; 8-bit AdamW over `unet.parameters()`; the loss scaled
by accelerate but neither unscaled nor cast, since nothing went through `accelerator.prepare`, so
that there is no autocast, and every micro-batch is a step; the loss read on every fourth.  The
second text encoder is a `CLIPTextModel`, whose first token's state is the pooled prompt.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import bitsandbytes
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.full_size_model import build_vae
from benchmarks.training_step.arms import Arm
from benchmarks.training_step.inputs import is_mini
from benchmarks.training_step.script_of_diffusers import TARGETS, sdxl_scheduler
from benchmarks.training_step.trainer import Trainer, build_unet
from rasengan_xl.mini import architecture
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.full_size import TEXT_CONFIGS, TOKENS
from rasengan_xl.sdxl.objective import LatentBatch

ACCUMULATION = 4
MAX_GRADIENT_NORM = 1.0
LOSS_SCALE = 2.0**16
"""Where accelerate's scaler starts; it is never updated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All that is on the device while a notebook trains."""

    unet: Any
    vae: Any
    text_encoders: tuple[Any, Any]
    scheduler: Any
    resolution: int
    dtype: torch.dtype


def build_notebooks(arm: Arm, compute: Compute) -> Trainer:
    """Build everything that a notebook keeps on the device."""
    unet = build_unet(compute.device, compute.dtype, small=is_mini(arm))
    if arm.checkpointing:
        unet.enable_gradient_checkpointing()
    config = LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, lora_dropout=0.0, bias="none")
    unet = get_peft_model(unet, config)
    unet.train()
    parts = Parts(
        unet=unet,
        vae=build_float_vae(compute.device, small=is_mini(arm)),
        text_encoders=build_encoders(compute, small=is_mini(arm)),
        scheduler=sdxl_scheduler(),
        resolution=arm.resolution,
        dtype=compute.dtype,
    )
    trained = {plain(name): p for name, p in unet.named_parameters() if p.requires_grad}
    return Trainer(
        unet=unet,
        steps=partial(take_steps, parts, arm.batch_size),
        forward=lambda: full_loss(parts, *pixels_and_tokens(parts, arm.batch_size, "meta")),
        losses=partial(unet_loss, parts),
        gradients=lambda: {n: p.grad for n, p in trained.items() if p.grad is not None},
        weights=lambda: {n: p.detach() for n, p in trained.items()},
    )


def plain(name: str) -> str:
    """Return a parameter's name without what `get_peft_model` puts before it."""
    return name.removeprefix("base_model.model.")


def build_float_vae(device: torch.device, *, small: bool) -> Any:
    """Build the VAE in float32."""
    with device:
        vae: Any = architecture.build_vae() if small else build_vae()
    return vae.requires_grad_(requires_grad=False).eval()


def build_encoders(compute: Compute, *, small: bool) -> tuple[Any, Any]:
    """Build both text encoders in the precision of the UNet."""
    if small:
        small_ones: Any = architecture.build_text_encoders(1000, 1, 2)
        first, second = (encoder.to(compute.device, compute.dtype) for encoder in small_ones)
        return first, second
    kind: Any = CLIPTextModel
    config_of: Any = CLIPTextConfig
    with compute.device:
        encoders = [kind(config_of(**shape)) for shape in TEXT_CONFIGS]
    first, second = (e.to(compute.dtype).requires_grad_(requires_grad=False) for e in encoders)
    return first.eval(), second.eval()


def pixels_and_tokens(parts: Parts, batch_size: int, device: str) -> tuple[Tensor, Tensor]:
    """Draw pictures, and captions that both tokenizers cut into the same numbers."""
    side = parts.resolution
    pixels = torch.rand(batch_size, 3, side, side, device=device) * 2 - 1
    return pixels, torch.randint(3, 1000, (batch_size, TOKENS), device=device)


def full_loss(parts: Parts, pixels: Tensor, tokens: Tensor) -> Tensor:
    """Encode pictures and captions, then compute the loss."""
    with torch.no_grad():
        shown = pixels.nan_to_num(nan=0.0, posinf=1.0, neginf=0.0).clamp(-1.0, 1.0)
        latents = parts.vae.encode(shown).latent_dist.sample() * parts.vae.config.scaling_factor
        latents = latents.to(parts.dtype)
        first, second = (e(tokens, output_hidden_states=True) for e in parts.text_encoders)
        prompts = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        pooled = second.hidden_states[-1][:, 0, :]
    count = len(latents)
    size = (parts.resolution, parts.resolution, 0, 0, parts.resolution, parts.resolution)
    batch = LatentBatch(
        latents=latents,
        noise=torch.randn_like(latents),
        timesteps=torch.randint(0, 1000, (count,), device=latents.device),
        prompts=prompts,
        pooled_prompts=pooled,
        size_numbers=torch.tensor([size] * count, device=latents.device),
    )
    return unet_loss(parts, batch)


def unet_loss(parts: Parts, batch: LatentBatch) -> Tensor:
    """Compute the loss of encoded pictures and captions."""
    noise = batch.noise.to(parts.dtype)
    noisy = parts.scheduler.add_noise(batch.latents.to(parts.dtype), noise, batch.timesteps)
    conditions = {
        "text_embeds": batch.pooled_prompts.to(parts.dtype),
        "time_ids": batch.size_numbers.to(parts.dtype),
    }
    predicted = parts.unet(
        noisy, batch.timesteps, batch.prompts.to(parts.dtype), added_cond_kwargs=conditions
    ).sample
    return mse_loss(predicted.float(), noise.float())


def take_steps(parts: Parts, batch_size: int, count: int) -> Iterator[float]:
    """Take optimizer steps, each on pictures and captions that a loader holds ready."""
    device = next(parts.unet.parameters()).device
    optimizers: Any = bitsandbytes.optim
    optimizer = optimizers.AdamW8bit(parts.unet.parameters(), lr=1e-4)
    scale = LOSS_SCALE if parts.dtype is torch.float16 else 1.0
    held = [pixels_and_tokens(parts, batch_size, "cpu") for _ in range(count)]
    if device.type == "cuda":
        held = [(pixels.pin_memory(), tokens.pin_memory()) for pixels, tokens in held]
    told = 0.0
    for step, (pixels, tokens) in enumerate(held):
        loss = full_loss(parts, pixels.to(device), tokens.to(device))
        (loss / ACCUMULATION * scale).backward()
        nn.utils.clip_grad_norm_(parts.unet.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        if step % ACCUMULATION == 0:
            told = loss.item()
        yield told
