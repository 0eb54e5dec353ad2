"""Training as diffusers' `examples/text_to_image/train_text_to_image_lora_sdxl.py` does it.

Written anew from the form of that script (diffusers 0.30 and later; Apache-2.0).  As there:
PEFT's layers by `unet.add_adapter`, in the base's 16 bits under bf16 and in float32 under fp16
(`cast_training_params`); the UNet under autocast, whose output is made float32; the loss read by
the host before it goes backward; gradients clipped; `torch.optim.AdamW` at its defaults, and a
loss scale under fp16; `enable_gradient_checkpointing` if asked for.

In its favour, latents and captions come encoded: the script runs its VAE and both text encoders
in every step.  Its NF4 form is bitsandbytes' `Linear4bit` in place of every linear layer, which is
what `BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
bnb_4bit_use_double_quant=True)` makes.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import bitsandbytes
import torch
from diffusers.optimization import get_scheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from peft import LoraConfig
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from benchmarks.training_step.arms import Arm
from benchmarks.training_step.inputs import draw_batch, is_mini, meta_batch, shape_of
from benchmarks.training_step.trainer import Trainer, build_unet
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.objective import LatentBatch

TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]
MAX_GRADIENT_NORM = 1.0


def build_diffusers(arm: Arm, compute: Compute, base_dtype: torch.dtype | None = None) -> Trainer:
    """Build the UNet as the script does, PEFT's layers on it.

    Args:
        arm: What to build.
        compute: Where, and in which precision.
        base_dtype: Precision in which the base's weights are drawn, before they are cast.
    """
    unet = build_unet(compute.device, base_dtype or compute.dtype, small=is_mini(arm))
    unet.to(compute.dtype)
    if arm.base == "nf4":
        quantize(unet, compute)
    if arm.checkpointing:
        unet.enable_gradient_checkpointing()
    config = LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, use_dora=arm.decompose)
    unet.add_adapter(config)
    trained = {name: p for name, p in unet.named_parameters() if p.requires_grad}
    for parameter in trained.values():
        if not arm.half_adapters:
            parameter.data = parameter.data.float()
    unet.train()
    loss_of = partial(script_loss, unet, sdxl_scheduler(), compute)
    return Trainer(
        unet=unet,
        steps=partial(take_steps, arm, compute, loss_of, list(trained.values())),
        forward=lambda: loss_of(meta_batch(shape_of(arm), arm.batch_size)),
        losses=loss_of,
        gradients=lambda: {n: p.grad for n, p in trained.items() if p.grad is not None},
        weights=lambda: {n: p.detach() for n, p in trained.items()},
    )


def sdxl_scheduler() -> Any:
    """Return the noise schedule of SDXL, as its repository configures it."""
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def script_loss(unet: Any, scheduler: Any, compute: Compute, batch: LatentBatch) -> Tensor:
    """Compute the loss: noise and latents are in the base's precision from the start."""
    dtype = compute.dtype
    noise = batch.noise.to(dtype)
    noisy = scheduler.add_noise(batch.latents.to(dtype), noise, batch.timesteps)
    conditions = {
        "text_embeds": batch.pooled_prompts.to(dtype),
        "time_ids": batch.size_numbers.to(dtype),
    }
    # Autocast knows no tensors without values.
    mixed = nullcontext() if compute.device.type == "meta" else compute.autocast()
    with mixed:
        predicted = unet(
            noisy, batch.timesteps, batch.prompts.to(dtype), added_cond_kwargs=conditions
        ).sample
    return mse_loss(predicted.float(), noise.float())


def take_steps(
    arm: Arm, compute: Compute, loss_of: Any, parameters: list[Tensor], count: int
) -> Iterator[float]:
    """Take optimizer steps, each on a batch that a loader holds ready in pinned memory."""
    device, shape = compute.device, shape_of(arm)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=1e-2)
    course = get_scheduler("constant", optimizer=optimizer)
    scaler = torch.amp.GradScaler(device.type, enabled=arm.precision == "fp16")
    batches = [draw_batch(shape, shape.latent_side, arm.batch_size, s) for s in range(count)]
    for batch in batches:
        loss = loss_of(batch.to(device))
        told = loss.item()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        scaler.step(optimizer)
        scaler.update()
        course.step()
        optimizer.zero_grad()
        yield told


def quantize(unet: Any, compute: Compute) -> None:
    """Put bitsandbytes' 4-bit layers in place of the linear ones."""
    layers: Any = bitsandbytes.nn
    modules: list[tuple[str, Any]] = list(unet.named_modules())
    for name, linear in modules:
        if not isinstance(linear, nn.Linear):
            continue
        parent, _, child = name.rpartition(".")
        has_bias: bool = "bias" in dict(linear.named_parameters())
        stored = layers.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=has_bias,
            compute_dtype=compute.dtype,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        stored.weight = layers.Params4bit(
            linear.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4",
            module=stored,
        )  # fmt: skip
        stored.support_avx512bf16_for_cpu = False  # some CPUs would repack weights in place
        stored.bias = linear.bias
        setattr(unet.get_submodule(parent), child, stored.to(compute.device))
    unet.is_loaded_in_4bit = True
