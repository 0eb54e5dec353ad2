"""A base model set up for a request: loaded, put on a rung of the memory ladder, measured."""

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, cast

from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from torch import nn

from rasengan_xl.adapters.applying import AppliedAdapters, applied
from rasengan_xl.adapters.carrying import carry_over
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.config.dataset_settings import LATENT_MULTIPLE
from rasengan_xl.config.drawing_settings import DEFAULT_DENOISE, DrawingSettings
from rasengan_xl.dataset.buckets import choose_bucket, list_buckets
from rasengan_xl.generation.checkpoint_adapters import adapter_of_checkpoint
from rasengan_xl.generation.decoding import bears_half_precision
from rasengan_xl.generation.from_picture import Start, open_start
from rasengan_xl.generation.ground import Ground
from rasengan_xl.generation.memory import MemorySavings, choose_savings, offloaded
from rasengan_xl.generation.pipeline import load_pipeline, load_scheduler
from rasengan_xl.generation.requests import Drawing, Request
from rasengan_xl.generation.schedulers import build_scheduler, check_steps, sampler_name
from rasengan_xl.generation.subjects import Subject, is_checkpoint
from rasengan_xl.planning.drawing_needs import measure_model
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.compute import Compute, choose_compute
from rasengan_xl.sdxl.layers import ADAPTED_PARTS, ModelLayers, list_layers
from rasengan_xl.sdxl.model_folder import ModelFolder, find_model
from rasengan_xl.sdxl.stored_weights import StoredWeights

_SDXL_BUCKET_MULTIPLE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Easel:
    """A model ready to draw, and how it draws."""

    pipeline: StableDiffusionXLPipeline
    model: ModelFolder
    layers: ModelLayers
    compute: Compute
    savings: MemorySavings
    drawing: Drawing
    scheduler_name: str | None
    """Our name of the sampler; None: the model's own."""
    own_scheduler: Any
    start: Start | None
    base_model: str

    @contextmanager
    def adapted(self, files: Sequence[Path]) -> Generator[AppliedAdapters | None]:
        """Put adapters on, at strength 0 as yet; None, where there are none."""
        with ExitStack() as stack:
            contents = [self._fitted(stack.enter_context(self._contents(f))) for f in files]
            parts = {
                name: cast("nn.Module", getattr(self.pipeline, name)) for name in ADAPTED_PARTS
            }
            at_first = [0.0] * len(contents)
            yield stack.enter_context(applied(parts, contents, at_first)) if contents else None

    def ready(self) -> AbstractContextManager[None]:
        """Offload what is not needed just now, as long as nothing changes the weights."""
        return offloaded(self.pipeline, self.savings, self.compute.device)

    def take_sampler(self, *, from_pure_noise: bool) -> None:
        """Sample as asked from now on."""
        self.pipeline.scheduler = build_scheduler(
            self.own_scheduler, self.scheduler_name, from_pure_noise=from_pure_noise
        )

    def _fitted(self, contents: AdapterContents) -> AdapterContents:
        """Fit an adapter to the base as it is stored on this rung."""
        stored = StoredWeights(self.model)
        precision = self.savings.base_precision
        return carry_over(
            contents, precision, self.compute.dtype, lambda layer: stored.read(f"{layer}.weight")
        )

    @contextmanager
    def _contents(self, file: Path) -> Generator[AdapterContents]:
        if is_checkpoint(file):
            with adapter_of_checkpoint(file) as inside:
                yield replace(read_adapter(inside, self.layers), source=file)
        else:
            yield read_adapter(file, self.layers)


def set_up(
    ground: Ground,
    settings: DrawingSettings,
    requests: Sequence[Request],
    subjects: Sequence[Subject] = (),
) -> Generator[StageProgress, None, Easel]:
    """Load the base model for what is wanted, once all that can be wrong before is not.

    Args:
        ground: Base model, and what it computes in.
        settings: How to draw.
        requests: What to draw.
        subjects: What it will be drawn with; adapters are read now, so that one that does not fit
            is told before minutes of loading.

    Raises:
        AdapterError: One does not fit the base model.
        RecipeError: There is no such sampler, it cannot take that many steps, or the picture to
            start from cannot be read.
        ModelError: The base model is missing, incomplete or not SDXL, or the sampler cannot begin
            from pure noise.
        DeviceError: The machine lacks what was asked for.
    """
    name = None if settings.scheduler is None else sampler_name(settings.scheduler)
    start = _open_start(settings)
    model = find_model(ground.base_model, ground.base_revision)
    compute, layers = choose_compute(ground.compute), list_layers(model)
    _check_samplers(load_scheduler(model), name, subjects, settings.sampler_steps)
    files = list(dict.fromkeys(file for subject in subjects for file in subject.files))
    yield from _check_adapters(files, layers)
    size = choose_size(model, ground, settings, start)
    largest = max((request.size or size for request in requests), key=prod)
    pixels = prod(largest) * settings.batch_size
    chosen = choose_savings(settings.memory, compute, measure_model(model), pixels)
    yield StageProgress(stage="load the model", done=0, total=1, note=chosen.note)
    pipeline = load_pipeline(model, compute, chosen.savings)
    if settings.compiled:
        pipeline.unet.compile_repeated_blocks(dynamic=True)
    yield StageProgress(stage="load the model", done=1, total=1)
    on_cuda = compute.device.type == "cuda"
    return Easel(
        pipeline=pipeline,
        model=model,
        layers=layers,
        compute=compute,
        savings=chosen.savings,
        drawing=Drawing(
            size=size,
            sampler_steps=settings.sampler_steps,
            guidance=settings.guidance,
            guidance_rescale=settings.guidance_rescale,
            batch_size=settings.batch_size,
            reads_emphasis=True,
            decodes_in_half=on_cuda and bears_half_precision(cast("Any", pipeline).vae),
        ),
        scheduler_name=name,
        own_scheduler=pipeline.scheduler,
        start=start,
        base_model=ground.base_model,
    )


def choose_size(
    model: ModelFolder, ground: Ground, settings: DrawingSettings, start: Start | None
) -> tuple[int, int]:
    """Return width and height: as asked, else near what the adapter or the model was trained at."""
    if settings.size is not None:
        return settings.size
    side = ground.resolution or _native_side(model)
    aspect = settings.aspect or (start.picture.size if start else None)
    if aspect is None:
        return side, side
    multiple = ground.bucket_multiple or _SDXL_BUCKET_MULTIPLE
    fitting = multiple if side % multiple == 0 and side >= 4 * multiple else LATENT_MULTIPLE
    bucket = choose_bucket(*aspect, list_buckets(side, fitting))
    return bucket.width, bucket.height


def _check_samplers(
    own: Any, name: str | None, subjects: Sequence[Subject], sampler_steps: int
) -> None:
    """Try the sampler for every subject: the base may begin otherwise than its adapters."""
    for from_pure_noise in {False, *(subject.from_pure_noise for subject in subjects)}:
        check_steps(build_scheduler(own, name, from_pure_noise=from_pure_noise), sampler_steps)


def _check_adapters(files: Sequence[Path], layers: ModelLayers) -> Iterator[StageProgress]:
    """Read every adapter once, and say what should be known of it."""
    for number, file in enumerate(files, start=1):
        notes = () if is_checkpoint(file) else read_adapter(file, layers).notes
        for note in notes or ("",):
            yield StageProgress(stage="read the adapters", done=number, total=len(files), note=note)


def _open_start(settings: DrawingSettings) -> Start | None:
    if settings.from_picture is None:
        return None
    denoise = DEFAULT_DENOISE if settings.denoise is None else settings.denoise
    return open_start(Path(settings.from_picture), denoise, settings.sampler_steps)


def _native_side(model: ModelFolder) -> int:
    """Return the side that a model draws at by itself, in pixels."""
    unet, vae = (
        json.loads((model.path / part / "config.json").read_text(encoding="utf-8"))
        for part in ("unet", "vae")
    )
    return int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)
