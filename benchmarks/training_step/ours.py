"""Training as a run of ours does it: the same loop, over pictures in a store on disk."""

import gc
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.random_dataset import Shape, open_pictures, write_store
from benchmarks.training_step.arms import Arm
from benchmarks.training_step.inputs import is_mini, meta_batch, shape_of
from benchmarks.training_step.trainer import Trainer, build_unet
from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.config.recipe import load_recipe
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.stream import build_stream
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.engine.caption_columns import caption_columns, count_columns
from rasengan_xl.mini import architecture
from rasengan_xl.ranks import ALONE
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.noise_schedule import NoiseSchedule
from rasengan_xl.sdxl.objective import LatentBatch, Objective, build_objective, denoising_losses
from rasengan_xl.sdxl.quantization import quantize
from rasengan_xl.training.given_weights import GivenWeights
from rasengan_xl.training.loop import Task, train_steps
from rasengan_xl.training.optimizer import build_optimizer
from rasengan_xl.training.state import TrainingState


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a run of ours consists of."""

    arm: Arm
    shape: Shape
    adapter: Adapter
    compute: Compute
    objective: Objective
    notes: list[str] = field(default_factory=list[str])
    skipped: list[int] = field(default_factory=list[int])


def build_ours(arm: Arm, compute: Compute) -> Trainer:
    """Build the UNet and the adapter as a run does."""
    unet = build_unet(compute.device, compute.dtype, small=is_mini(arm))
    columns = caption_columns(unet) if arm.engine().cache_text_kv else {}
    if compute.device.type != "meta":
        for name in columns:
            unet.get_submodule(name).to("cpu")
    quantize(unet, compute, arm.base, list(columns))
    gc.collect()  # a real run quantizes from main memory: what was whole here leaves no trace
    work = Work(
        arm=arm,
        shape=replace(shape_of(arm), key_value_width=count_columns(columns)),
        adapter=attach_adapter(unet, settings_of(arm, 1).adapter, 0, arm.engine()),
        compute=compute,
        objective=build_objective(noise_schedule(), settings_of(arm, 1).objective).to(
            compute.device
        ),
    )
    unet.train()
    return Trainer(
        unet=unet,
        steps=partial(take_steps, work),
        forward=lambda: losses(work, meta_batch(work.shape, arm.batch_size)),
        losses=partial(losses, work),
        gradients=lambda: gradients(work),
        weights=lambda: {n: p.detach() for n, p in work.adapter.parameters.items()},
        notes=work.notes,
        skipped=work.skipped,
    )


def noise_schedule() -> NoiseSchedule:
    """Return the noise schedule of SDXL."""
    scheduler = architecture.build_scheduler()
    return NoiseSchedule(alpha_bars=scheduler.alphas_cumprod, prediction_type="epsilon")


def settings_of(arm: Arm, steps: int) -> RunSettings:
    """Return what a recipe would say of the arm."""
    return load_recipe(
        "dora" if arm.decompose else "lora",
        [
            f"dataset.resolution={max(arm.resolution, 64)}",
            f"training.steps={steps}",
            "training.warmup_steps=0",
            "training.accumulation=1",
            "training.most_skipped_share=1.0",
            f"training.batch_size={arm.batch_size}",
        ],
    )


def losses(work: Work, batch: LatentBatch) -> Tensor:
    """Compute the mean loss of a batch."""
    meta = work.compute.device.type == "meta"  # which knows no autocast
    with nullcontext() if meta else work.adapter.computing(work.compute):
        return denoising_losses(work.adapter.unet, batch, work.objective).mean()


def gradients(work: Work) -> dict[str, Tensor]:
    """Return the gradients that have been added up, by PEFT's names."""
    work.adapter.collect()
    return dict(work.adapter.gradients())


def take_steps(work: Work, count: int) -> Iterator[float]:
    """Take optimizer steps as a run does, reading included."""
    arm, compute, settings = work.arm, work.compute, settings_of(work.arm, count)
    optimizer = build_optimizer(work.adapter.trained, settings.training)
    state = TrainingState(
        adapter=work.adapter,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(compute.device.type, enabled=compute.dtype is torch.float16),
        trace=TraceHash(),
        given=GivenWeights(work.adapter.trained, optimizer, None, work.adapter.settle),
    )
    shape, pictures = work.shape, max(16, 2 * arm.batch_size)
    with TemporaryDirectory() as store:
        write_store(Path(store), pictures, pictures, shape)
        shown = open_pictures(Path(store), pictures, pictures, shape)
        task = Task(
            stream=build_stream(shown, settings, len(work.objective.schedule.alpha_bars), ALONE),
            objective=work.objective,
            compute=compute,
            settings=settings.training,
        )
        for record in train_steps(state, task):
            work.notes.extend(state.notes)
            state.notes.clear()
            work.skipped.extend([record.step] if record.skipped else [])
            yield record.loss
