"""Carry out one training step on tensors without values, and tell what it would take."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils import checkpoint

from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.engine.caption_columns import caption_columns, count_columns
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.weights import release_scratch
from rasengan_xl.planning.caching_allocator import most_reserved_recorded, replay
from rasengan_xl.planning.cuda_on_meta import CudaOnMeta
from rasengan_xl.planning.ledger import Peak, find_peak
from rasengan_xl.planning.loading import list_resident, note_loading, quantization_constants
from rasengan_xl.planning.model_shape import META, ModelShape
from rasengan_xl.planning.optimizer_memory import moments_bytes, step_end_bytes
from rasengan_xl.planning.recorder import Recorder
from rasengan_xl.planning.work import Operation, Work
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.full_size import TOKENS
from rasengan_xl.sdxl.noise_schedule import NoiseSchedule
from rasengan_xl.sdxl.objective import LatentBatch, build_objective, denoising_losses
from rasengan_xl.sdxl.quantization import quantize

_TIMESTEPS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a phase takes."""

    peak: Peak
    reserved: int
    """Most bytes that PyTorch's allocator holds."""
    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNeeds(Needs):
    """What a training step takes."""

    trained: int
    """Weights of the adapter."""
    kept: int
    """Bytes that the forward pass leaves for the backward pass."""
    forward: Work
    """The part of one forward pass, as held-out loss takes it."""


@dataclass(slots=True, kw_only=True)
class _Pass:
    """A UNet with its adapter, ready for a pass that is watched."""

    settings: RunSettings
    adapter: Adapter
    recorder: Recorder
    mode: CudaOnMeta
    batch: LatentBatch
    named: dict[int, str]
    start: int
    """Move at which the pass begins."""

    def losses(self) -> Tensor:
        """Carry out a forward pass."""
        with self.mode:
            objective = build_objective(_schedule(), self.settings.objective)
            return denoising_losses(self.adapter.unet, self.batch, objective)


def simulate_step(
    settings: RunSettings, shape: ModelShape, options: EngineOptions, dtype: torch.dtype
) -> StepNeeds:
    """Tell what an optimizer step of one process takes, once optimizer and caches are filled.

    Pictures are taken to be square: buckets keep to the square's area.

    Args:
        settings: Of the run.
        shape: Of its base model.
        options: How it is computed.
        dtype: Compute precision.
    """
    ready = _make_ready(settings, shape, options, dtype)
    recorder, adapter = ready.recorder, ready.adapter
    with recorder:
        recorder.ledger.mark("forward")
        losses = ready.losses()
        loss = losses.sum() / settings.training.batch_size
        forward = recorder.work.times(1)
        recorder.ledger.mark("backward")
        loss.backward()
        adapter.collect()
        ready.named |= _number(recorder, _gradients(adapter), "gradients")
        work = recorder.work.times(settings.training.accumulation)
        recorder.work = Work()
        recorder.ledger.mark("optimizer")
        adapter.settle()
    trained = sum(weights.numel() for weights in adapter.trained.values())
    end = Operation("memory", 0, step_end_bytes(trained, settings.training.optimizer))
    work += recorder.work
    work.operations[end] += 1
    return StepNeeds(
        peak=find_peak(recorder.ledger, ready.named, "backward", ready.start),
        reserved=_most_reserved(ready, options),
        work=work,
        trained=trained,
        kept=_kept(recorder, ready.named),
        forward=forward,
    )


@torch.no_grad()
def simulate_held_out(
    settings: RunSettings, shape: ModelShape, options: EngineOptions, dtype: torch.dtype
) -> Needs:
    """Tell what a forward pass of the held-out loss takes; arguments as of `simulate_step`."""
    ready = _make_ready(settings, shape, options, dtype)
    ready.adapter.unet.eval()
    with ready.recorder:
        ready.losses()
    ledger = ready.recorder.ledger
    return Needs(
        peak=find_peak(ledger, ready.named, None, ready.start),
        reserved=replay(ledger).most_reserved,
        work=ready.recorder.work,
    )


def _make_ready(
    settings: RunSettings, shape: ModelShape, options: EngineOptions, dtype: torch.dtype
) -> _Pass:
    release_scratch(META.type)  # every run has its own
    unet = shape.build_unet(dtype)
    columns = caption_columns(unet) if options.cache_text_kv else {}
    quantize(unet, Compute(META, dtype), settings.adapter.base_precision, columns)
    recorder = Recorder()
    note_loading(recorder, unet, dtype)
    with recorder, torch.enable_grad():
        adapter = attach_adapter(unet, settings.adapter, settings.seed, options)
        named = _take_stock(recorder, adapter, settings)
    batch = _batch(settings, shape)
    if columns:
        kept = _key_values(settings, columns, dtype)
        batch = replace(batch, key_values=kept)
        recorder.hold([kept], "kept keys and values")
    mode = CudaOnMeta(dtype if _is_autocast(options, dtype) else None)
    if options.implementation == "peft" and options.memory == "recompute-all":
        _keep_mode_in_checkpoints(unet, mode)
    unet.train()
    recorder.work = Work()
    return _Pass(
        settings=settings,
        adapter=adapter,
        recorder=recorder,
        mode=mode,
        batch=batch,
        named=named,
        start=len(recorder.ledger.moves),
    )


def _most_reserved(ready: _Pass, options: EngineOptions) -> int:
    ledger = ready.recorder.ledger
    if options.cuda_graph:
        return most_reserved_recorded(ledger, ready.start)
    return replay(ledger).most_reserved


def hold_model(recorder: Recorder, model: nn.Module) -> dict[int, str]:
    """Note a frozen model's weights as there; return the kind of each piece.

    Those that stay in main memory are not.
    """
    weights, buffers = list_resident(model)
    constants = [*buffers, *chain.from_iterable(map(quantization_constants, weights))]
    recorder.hold(weights, "weights")
    recorder.hold(constants, "constants")
    is_quantized = any(not weight.is_floating_point() for weight in weights)
    kind = "quantization constants" if is_quantized else "base weights"
    named = _number(recorder, constants, kind)
    return named | _number(recorder, weights, "base weights")


def _take_stock(recorder: Recorder, adapter: Adapter, settings: RunSettings) -> dict[int, str]:
    """Note what is there before a step, and what it is for."""
    _hold_gradients(adapter, accumulates=settings.training.accumulation > 1)
    trained = list(adapter.trained.values())
    recorder.hold(trained, "adapter")
    alive = recorder.ledger.alive_after(len(recorder.ledger.moves) - 1)
    named = dict.fromkeys(alive, "adapter")
    held = hold_model(recorder, adapter.unet)
    frozen = held if not trained else held | _number(recorder, trained, "adapter")
    named |= frozen
    named |= _number(recorder, _gradients(adapter), "gradients")
    extra = moments_bytes(trained, settings.training.optimizer)
    named[recorder.ledger.take(extra, "moments")] = "optimizer"
    if settings.training.ema_decay is not None:
        average = 4 * sum(weights.numel() for weights in trained)
        named[recorder.ledger.take(average, "average")] = "adapter"
    return named


def _hold_gradients(adapter: Adapter, *, accumulates: bool) -> None:
    """Have gradients there before a step if an earlier forward pass of it has left some."""
    for weights in adapter.trained.values():
        if weights.grad is None and accumulates:
            weights.grad = torch.empty_like(weights)


def _gradients(adapter: Adapter) -> list[Tensor]:
    return [w.grad for w in adapter.trained.values() if w.grad is not None]


def _number(recorder: Recorder, tensors: Sequence[Tensor], kind: str) -> dict[int, str]:
    numbers = (recorder.number_of(tensor) for tensor in tensors)
    return {number: kind for number in numbers if number is not None}


def _kept(recorder: Recorder, named: Mapping[int, str]) -> int:
    ledger = recorder.ledger
    alive = ledger.alive_after(ledger.marks["backward"] - 1)
    return sum(ledger.sizes[number] for number in alive if number not in named)


def _is_autocast(options: EngineOptions, dtype: torch.dtype) -> bool:
    return options.implementation == "peft" and dtype is not torch.float32


def _keep_mode_in_checkpoints(unet: UNet2DConditionModel, mode: CudaOnMeta) -> None:
    """Have what is computed again computed as before: backward is outside of the mode."""
    library: Any = checkpoint
    function: Any = partial(
        library.checkpoint, use_reentrant=False, context_fn=lambda: (nullcontext(), mode.again())
    )
    cast("Any", unet).enable_gradient_checkpointing(function)


def _schedule() -> NoiseSchedule:
    empty = torch.empty(_TIMESTEPS, device=META)
    return NoiseSchedule(alpha_bars=empty, prediction_type="epsilon")


def _key_values(settings: RunSettings, columns: Mapping[str, range], dtype: torch.dtype) -> Tensor:
    width = count_columns(columns)
    return torch.empty(settings.training.batch_size, TOKENS, width, dtype=dtype, device=META)


def _batch(settings: RunSettings, shape: ModelShape) -> LatentBatch:
    size = settings.training.batch_size
    side = settings.dataset.resolution // shape.latent_share
    latents = torch.empty(size, shape.unet["in_channels"], side, side, device=META)
    width: int = shape.unet["cross_attention_dim"]
    return LatentBatch(
        latents=latents,
        noise=torch.empty_like(latents),
        timesteps=torch.empty(size, dtype=torch.long, device=META),
        prompts=torch.empty(size, TOKENS, width, device=META),
        pooled_prompts=torch.empty(size, shape.pooled_width, device=META),
        size_numbers=torch.empty(size, 6, dtype=torch.long, device=META),
    )
