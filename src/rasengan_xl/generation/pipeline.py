"""Base model and adapter, ready to draw."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)

from rasengan_xl.errors import AdapterError, DeviceError
from rasengan_xl.sdxl.components import load_text_encoders, load_tokenizers, load_unet, load_vae
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import ModelFolder, read_model_index
from rasengan_xl.sdxl.noise_schedule import check_sampler_rescales
from rasengan_xl.tensor_file import tensor_names


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySavings:
    """Ways to draw in less memory, each for some time."""

    vae_slicing: bool = False
    """Decode one picture at a time."""
    vae_tiling: bool = False
    """Decode a picture tile by tile."""
    attention_slicing: bool = False
    """Compute attention head by head."""
    offload: bool = False
    """Keep each part in main memory until it is needed."""


def load_pipeline(
    model: ModelFolder, compute: Compute, savings: MemorySavings
) -> StableDiffusionXLPipeline:
    """Load a base model to draw with, its VAE in float32.

    Raises:
        DeviceError: Offloading is asked for without a GPU.
    """
    if savings.offload and compute.device.type != "cuda":
        raise DeviceError(
            "--offload moves parts to and from a GPU, and there is none; leave it out"
        )
    loading = Compute(torch.device("cpu"), compute.dtype) if savings.offload else compute
    index = read_model_index(model)
    scheduler: Any = getattr(diffusers, index["scheduler"][1])
    first, second = load_text_encoders(model, loading)
    tokenizers = load_tokenizers(model)
    pipeline = StableDiffusionXLPipeline(
        vae=load_vae(model, loading.device),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=load_unet(model, loading, "full"),
        scheduler=scheduler.from_pretrained(model.path, subfolder="scheduler"),
        force_zeros_for_empty_prompt=index.get("force_zeros_for_empty_prompt", True),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    if savings.vae_slicing:
        pipeline.vae.enable_slicing()
    if savings.vae_tiling:
        pipeline.vae.enable_tiling()
    if savings.attention_slicing:
        pipeline.enable_attention_slicing("max")
    if savings.offload:
        pipeline.enable_model_cpu_offload(device=compute.device)
    return pipeline


@contextmanager
def adapted(
    pipeline: StableDiffusionXLPipeline, adapter_file: Path, *, zero_terminal_snr: bool
) -> Generator[None]:
    """Put an adapter on the base model, and take it off again.

    Args:
        pipeline: Base model; changed in place.
        adapter_file: The adapter.
        zero_terminal_snr: It was trained to begin from pure noise, which its base was not: so
            the sampler does, too, as long as the adapter is on (arXiv:2305.08891, section 3.3).

    Raises:
        AdapterError: Not every weight of the file found its place.
        ModelError: The base's sampler cannot begin from pure noise.
    """
    own_sampler = pipeline.scheduler
    try:
        pipeline.load_lora_weights(str(adapter_file.parent), weight_name=adapter_file.name)
    except (ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise AdapterError(f"{adapter_file}: does not fit this base model ({reason})") from error
    try:
        _refuse_partial_load(pipeline, adapter_file)
        if zero_terminal_snr:
            pipeline.scheduler = _beginning_from_pure_noise(own_sampler)
        yield
    finally:
        pipeline.unload_lora_weights()
        pipeline.scheduler = own_sampler


def _beginning_from_pure_noise(sampler: Any) -> Any:
    check_sampler_rescales(type(sampler))
    return sampler.from_config(
        sampler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )


def _refuse_partial_load(pipeline: StableDiffusionXLPipeline, adapter_file: Path) -> None:
    """Diffusers only warns of weights that match no layer; an adapter half there is wrong."""
    in_file = len(tensor_names(adapter_file))
    on_model = sum(".lora_" in name for name, _ in pipeline.unet.named_parameters())
    if in_file != on_model:
        raise AdapterError(
            f"{adapter_file}: {in_file} weights, but {on_model} places for them in this base "
            "model; use the base it was trained on"
        )
