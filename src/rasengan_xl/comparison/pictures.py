"""The same prompts from the same noise, by the base and by every adapter."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)

from rasengan_xl.comparison.orders import Draw
from rasengan_xl.comparison.result import BASE, picture_file
from rasengan_xl.generation.drawing import draw_pictures, list_requests
from rasengan_xl.generation.pipeline import MemorySavings, adapted, load_pipeline
from rasengan_xl.generation.png import save_picture
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model


def draw_comparison(order: Draw) -> Iterator[StageProgress]:
    """Draw every picture of a comparison, the base's first, all on the unquantized base."""
    compute = choose_compute(order.settings.compute)
    model = find_model(order.settings.base_model, order.settings.base_revision)
    yield StageProgress(stage="draw", done=0, total=1)
    pipeline = load_pipeline(model, compute, MemorySavings(vae_slicing=True))
    size = order.pictures.size or order.settings.dataset.resolution
    requests = list_requests(order.pictures)
    total, done = len(requests) * (len(order.adapters) + 1), 0
    for name, adapter in {BASE: None, **order.adapters}.items():
        with _on(pipeline, adapter) if adapter else nullcontext():
            drawn = draw_pictures(pipeline, order.pictures, size)
            for number, (request, picture) in enumerate(zip(requests, drawn, strict=True)):
                described = {
                    "arm": name,
                    "prompt": request.prompt,
                    "seed": request.seed,
                    "size": size,
                    "base_model": order.settings.base_model,
                    **order.pictures.model_dump(
                        include={"negative_prompt", "sampler_steps", "guidance"}, mode="json"
                    ),
                }
                save_picture(picture, picture_file(order.folder, name, number), described)
                done += 1
                yield StageProgress(stage="draw", done=done, total=total)


def _on(pipeline: StableDiffusionXLPipeline, adapter_file: Path) -> AbstractContextManager[None]:
    """Put an arm's adapter on, with the sampler that the arm was trained for."""
    objective = RunFolder(adapter_file.parent).read_settings().objective
    zero_terminal_snr = objective.zero_terminal_snr is True
    return adapted(pipeline, adapter_file, zero_terminal_snr=zero_terminal_snr)
