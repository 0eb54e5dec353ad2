"""Where a pipeline computes, which is not where weights lie that wait to be used."""

from typing import Any

import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)


def execution_device(pipeline: StableDiffusionXLPipeline) -> torch.device:
    """Return the device that inputs are to be brought to, offloaded parts or not."""
    parts: Any = pipeline
    return parts._execution_device  # noqa: SLF001 - what diffusers' own pipelines go by
