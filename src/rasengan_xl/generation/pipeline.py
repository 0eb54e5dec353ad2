"""Base model and adapter, ready to draw."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import diffusers
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from torch import nn

from rasengan_xl.adapters.applying import applied
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.generation.memory import MemorySavings, cut_into_pieces
from rasengan_xl.generation.schedulers import build_scheduler
from rasengan_xl.sdxl.components import load_text_encoders, load_tokenizers, load_unet, load_vae
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.layers import ADAPTED_PARTS
from rasengan_xl.sdxl.model_folder import ModelFolder, read_model_index


def load_pipeline(
    model: ModelFolder, compute: Compute, savings: MemorySavings
) -> StableDiffusionXLPipeline:
    """Load a base model to draw with, its VAE in float32.

    Where parts are offloaded, they come to main memory: `memory.offloaded` has them used.
    """
    waits = savings.offload != "nothing"
    loading = Compute(torch.device("cpu"), compute.dtype) if waits else compute
    index = read_model_index(model)
    first, second = load_text_encoders(model, loading)
    tokenizers = load_tokenizers(model)
    pipeline = StableDiffusionXLPipeline(
        vae=load_vae(model, loading.device),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=load_unet(model, loading, savings.base_precision),
        scheduler=load_scheduler(model),
        force_zeros_for_empty_prompt=index.get("force_zeros_for_empty_prompt", True),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    cut_into_pieces(pipeline, savings)
    return pipeline


def load_scheduler(model: ModelFolder) -> Any:
    """Load a model's own sampler."""
    kind: Any = getattr(diffusers, read_model_index(model)["scheduler"][1])
    return kind.from_pretrained(model.path, subfolder="scheduler")


@contextmanager
def adapted(
    pipeline: StableDiffusionXLPipeline, contents: AdapterContents, *, from_pure_noise: bool
) -> Generator[None]:
    """Put an adapter beside the weights of a base model, and take it off again.

    It computes there as while it was trained: merged into 16 bits, small changes round away.

    Args:
        pipeline: Base model; changed in place.
        contents: The adapter.
        from_pure_noise: It was trained to begin there, which its base was not: so the sampler
            does, too, as long as the adapter is on (arXiv:2305.08891, section 3.3).

    Raises:
        AdapterError: It changes a layer that the base has not.
        ModelError: The base's sampler cannot begin from pure noise.
    """
    own_sampler = pipeline.scheduler
    parts = {name: cast("nn.Module", getattr(pipeline, name)) for name in ADAPTED_PARTS}
    with applied(parts, [contents], [1.0], fuse=False):
        try:
            pipeline.scheduler = build_scheduler(own_sampler, None, from_pure_noise=from_pure_noise)
            yield
        finally:
            pipeline.scheduler = own_sampler
