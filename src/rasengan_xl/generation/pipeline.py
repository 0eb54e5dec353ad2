"""Base model and adapter, ready to draw."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)

from rasengan_xl.errors import AdapterError
from rasengan_xl.generation.memory import MemorySavings, cut_into_pieces
from rasengan_xl.generation.schedulers import build_scheduler
from rasengan_xl.sdxl.components import load_text_encoders, load_tokenizers, load_unet, load_vae
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import ModelFolder, read_model_index
from rasengan_xl.tensor_file import tensor_names


def load_pipeline(
    model: ModelFolder, compute: Compute, savings: MemorySavings
) -> StableDiffusionXLPipeline:
    """Load a base model to draw with, its VAE in float32.

    Where parts are offloaded, they come to main memory: `memory.offloaded` has them used.
    """
    waits = savings.offload != "nothing"
    loading = Compute(torch.device("cpu"), compute.dtype) if waits else compute
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
        unet=load_unet(model, loading, savings.base_precision),
        scheduler=scheduler.from_pretrained(model.path, subfolder="scheduler"),
        force_zeros_for_empty_prompt=index.get("force_zeros_for_empty_prompt", True),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    cut_into_pieces(pipeline, savings)
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
            pipeline.scheduler = build_scheduler(own_sampler, None, from_pure_noise=True)
        yield
    finally:
        pipeline.unload_lora_weights()
        pipeline.scheduler = own_sampler


def _refuse_partial_load(pipeline: StableDiffusionXLPipeline, adapter_file: Path) -> None:
    """Diffusers only warns of weights that match no layer; an adapter half there is wrong."""
    in_file = len(tensor_names(adapter_file))
    on_model = sum(".lora_" in name for name, _ in pipeline.unet.named_parameters())
    if in_file != on_model:
        raise AdapterError(
            f"{adapter_file}: {in_file} weights, but {on_model} places for them in this base "
            "model; use the base it was trained on"
        )
