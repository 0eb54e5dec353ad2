"""Take a few real steps on random pictures, to see how far a prediction is off."""

import statistics
from dataclasses import dataclass

import torch

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.engine.caption_columns import caption_columns, count_columns
from rasengan_xl.engine.step_graph import GpuRecorder
from rasengan_xl.errors import ModelError
from rasengan_xl.planning.changes import LOAD_UNET, TRAIN
from rasengan_xl.planning.engine_choice import settle_engine
from rasengan_xl.planning.known_costs import remember_steps
from rasengan_xl.planning.memory_modes import choose_memory_mode, with_mode
from rasengan_xl.planning.model_shape import ModelShape, read_shape
from rasengan_xl.runs.cost import (
    Stopwatch,
    peak_memory_gib,
    peak_memory_reserved_gib,
    reset_peak_memory,
)
from rasengan_xl.runs.provenance import name_device
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import Compute, choose_compute
from rasengan_xl.sdxl.full_size import TOKENS
from rasengan_xl.sdxl.model_folder import ModelFolder, find_model_at_hand
from rasengan_xl.sdxl.noise_schedule import load_noise_schedule
from rasengan_xl.sdxl.objective import LatentBatch, build_objective
from rasengan_xl.training.assembly import list_held_back
from rasengan_xl.training.given_weights import GivenWeights
from rasengan_xl.training.optimizer import build_optimizer, set_learning_rate
from rasengan_xl.training.out_of_memory import MemoryWatch
from rasengan_xl.training.state import TrainingState
from rasengan_xl.training.step_computer import EagerStep, RecordedStep, StepComputer
from rasengan_xl.training.step_end import StepEnd

STEPS, UNTIMED = 8, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What some real steps took."""

    device_name: str
    memory: str
    """The memory mode that was chosen."""
    seconds_per_step: float
    """Median."""
    allocated_gib: float | None
    """Most that PyTorch allocated; None on a CPU."""
    reserved_gib: float | None


def probe_steps(settings: RunSettings) -> Probed:
    """Take steps as a run would take them, and remember their time for later predictions.

    Nothing is downloaded, nor written but that time.

    Raises:
        ModelError: The base model is not here.
        MemoryExhaustedError: The steps do not fit.
        RasenganError: The device or the model cannot be had.
    """
    model = find_model_at_hand(settings.base_model, settings.base_revision)
    if model is None:
        raise ModelError(
            f"--probe: the base model {settings.base_model} is not on this machine; plan without "
            "it, or train for a few steps, which fetches it"
        )
    compute = choose_compute(settings.compute)
    watch = MemoryWatch(settings=settings, phase=LOAD_UNET, model=model, compute=compute)
    with watch.explaining():
        return _take_steps(settings, model, compute, watch)


def _take_steps(
    settings: RunSettings, model: ModelFolder, compute: Compute, watch: MemoryWatch
) -> Probed:
    state, computer = _assemble(settings, model, compute)
    watch.phase, watch.memory = TRAIN, state.adapter.options.memory
    reset_peak_memory(compute.device)
    stopwatch = Stopwatch(compute.device)
    batch = _draw_batch(settings, read_shape(model), compute)
    laps: list[float] = []
    for _ in range(STEPS):
        stopwatch.start()
        losses = [computer.add_gradient(batch) for _ in range(settings.training.accumulation)]
        computer.finish(torch.cat(losses).sum()).item()
        state.adapter.clear_gradients()
        laps.append(stopwatch.lap())
    seconds, name = statistics.median(laps[UNTIMED:]), name_device(compute.device)
    remember_steps(settings, name, seconds)
    return Probed(
        device_name=name,
        memory=state.adapter.options.memory,
        seconds_per_step=seconds,
        allocated_gib=peak_memory_gib(compute.device) if compute.device.type == "cuda" else None,
        reserved_gib=peak_memory_reserved_gib(compute.device),
    )


def _assemble(
    settings: RunSettings, model: ModelFolder, compute: Compute
) -> tuple[TrainingState, StepComputer]:
    held_back = list_held_back(settings, model)
    unet = load_unet(model, compute, settings.adapter.base_precision, held_back)
    chosen = with_mode(settings, choose_memory_mode(settings, compute, shape=read_shape(model)))
    adapter = attach_adapter(
        unet, settings.adapter, settings.seed, settle_engine(chosen, unet, compute)
    )
    optimizer = build_optimizer(adapter.trained, settings.training)
    set_learning_rate(optimizer, settings.training.learning_rate)
    is_half = compute.dtype is torch.float16
    state = TrainingState(
        adapter=adapter,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(compute.device.type, enabled=is_half),
        trace=TraceHash(),
        given=GivenWeights(adapter.trained, optimizer, None, adapter.settle),
    )
    schedule = load_noise_schedule(model, zero_terminal_snr=settings.objective.zero_terminal_snr)
    unet.train()
    eager = EagerStep(
        state=state,
        objective=build_objective(schedule, settings.objective).to(compute.device),
        compute=compute,
        pictures_per_step=settings.training.batch_size * settings.training.accumulation,
        end=StepEnd(state, settings.training.max_gradient_norm),
    )
    if not adapter.options.cuda_graph:
        return state, eager
    return state, RecordedStep(eager, GpuRecorder, state.notes.append)


def _draw_batch(settings: RunSettings, shape: ModelShape, compute: Compute) -> LatentBatch:
    """Draw pictures and captions of the sizes that a run would see."""
    size, side = settings.training.batch_size, settings.dataset.resolution
    generator = torch.Generator().manual_seed(0)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(size, *sizes, generator=generator)

    kept = None
    if settings.engine.cache_text_kv:
        kept = normal(TOKENS, count_columns(caption_columns(shape.skeleton))).to(compute.dtype)
    latent = (shape.unet["in_channels"], side // shape.latent_share, side // shape.latent_share)
    return LatentBatch(
        latents=normal(*latent),
        noise=normal(*latent),
        timesteps=torch.randint(0, 1000, (size,), generator=generator),
        prompts=normal(TOKENS, shape.unet["cross_attention_dim"]),
        pooled_prompts=normal(shape.pooled_width),
        size_numbers=torch.tensor([[side, side, 0, 0, side, side]] * size),
        key_values=kept,
    )
