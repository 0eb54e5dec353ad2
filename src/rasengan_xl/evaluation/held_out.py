"""Loss on held-out pictures over a fixed table of (picture, timestep, noise)."""

import math
from collections.abc import Generator, Iterator
from dataclasses import fields

import torch
from torch import Tensor

from rasengan_xl.adapters.attach import Adapter
from rasengan_xl.config.settings import EvaluationSettings
from rasengan_xl.dataset.encoded import EncodedPictures
from rasengan_xl.errors import DivergedError
from rasengan_xl.runs.records import HeldOutLoss, StageProgress, standard_error
from rasengan_xl.sdxl.components import NoiseSchedule
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.draws import draw_noise
from rasengan_xl.sdxl.objective import LatentBatch, denoising_losses


@torch.no_grad()
def measure_held_out_loss(
    adapter: Adapter,
    pictures: EncodedPictures,
    schedule: NoiseSchedule,
    compute: Compute,
    settings: EvaluationSettings,
) -> Generator[StageProgress, None, HeldOutLoss]:
    """Measure the loss of base and adapted model on the same table.

    The table depends on the pictures alone, neither on the run's seed nor on its arm.
    """
    adapter.unet.eval()
    count = min(settings.pictures, len(pictures))
    base: list[float] = []
    adapted: list[float] = []
    for batch in _table(pictures, count, len(schedule.alpha_bars), settings.timesteps):
        on_device = batch.to(compute.device)
        with compute.autocast():
            adapted.append(denoising_losses(adapter.unet, on_device, schedule).mean().item())
            with adapter.disabled():
                base.append(denoising_losses(adapter.unet, on_device, schedule).mean().item())
        if not math.isfinite(adapted[-1]) or not math.isfinite(base[-1]):
            raise DivergedError(
                f"held-out picture {len(base)}: the loss is {adapted[-1]}, the base's {base[-1]}; "
                "lower training.learning_rate, or use compute.precision = 'bf16' or 'fp32'"
            )
        yield StageProgress(stage="held-out loss", done=len(base), total=count)
    differences = [a - b for a, b in zip(adapted, base, strict=True)]
    return HeldOutLoss(
        base=sum(base) / count,
        adapted=sum(adapted) / count,
        n=count * settings.timesteps,
        base_standard_error=standard_error(base),
        adapted_standard_error=standard_error(adapted),
        difference=sum(differences) / count,
        difference_standard_error=standard_error(differences),
    )


@torch.no_grad()
def measure_adapted_losses(
    adapter: Adapter,
    pictures: EncodedPictures,
    schedule: NoiseSchedule,
    compute: Compute,
    settings: EvaluationSettings,
    at_once: int,
) -> Generator[StageProgress, None, list[float]]:
    """Measure the adapted model alone on the first pictures of the same table, while training.

    Nothing of the training changes: no chance is drawn, and the UNet goes back to the mode it was
    in, also when the measurement is broken off.

    Args:
        adapter: What has been learnt so far.
        pictures: The held-out ones; `settings.checkpoint_pictures` of them are used.
        schedule: Of the base model.
        compute: Where, in which precision.
        settings: Size of the table.
        at_once: Entries per forward pass; as many as a training step has need no more memory.

    Returns:
        The mean loss of each picture.
    """
    was_training = adapter.unet.training
    count = min(settings.checkpoint_pictures, len(pictures))
    losses: list[float] = []
    try:
        adapter.unet.eval()
        for batch in _table(pictures, count, len(schedule.alpha_bars), settings.timesteps):
            parts: list[Tensor] = []
            for start in range(0, settings.timesteps, at_once):
                on_device = _part(batch, start, start + at_once).to(compute.device)
                with compute.autocast():
                    parts.append(denoising_losses(adapter.unet, on_device, schedule))
            losses.append(torch.cat(parts).mean().item())
            if not math.isfinite(losses[-1]):
                raise DivergedError(
                    f"held-out picture {len(losses)}: the loss is {losses[-1]}; lower "
                    "training.learning_rate, or use compute.precision = 'bf16' or 'fp32'"
                )
            yield StageProgress(stage="held-out loss", done=len(losses), total=count)
    finally:
        adapter.unet.train(was_training)
    return losses


def _table(
    pictures: EncodedPictures, count: int, schedule_length: int, timesteps: int
) -> Iterator[LatentBatch]:
    """Yield one batch per picture: all its timesteps, in the middle of equal strata."""
    middles = (torch.arange(timesteps) + 0.5) / timesteps
    for row in range(count):
        yield LatentBatch(
            latents=_repeat(pictures.means[row, 0] * pictures.scaling_factor, timesteps),
            noise=_table_noise(pictures, row, timesteps),
            timesteps=(middles * schedule_length).long(),
            prompts=_repeat(pictures.prompts[pictures.captions[row]], timesteps),
            pooled_prompts=_repeat(pictures.pooled_prompts[pictures.captions[row]], timesteps),
            size_numbers=_repeat(pictures.size_numbers[row, 0], timesteps),
        )


def _table_noise(pictures: EncodedPictures, row: int, timesteps: int) -> Tensor:
    shape = tuple(pictures.means.shape[2:])
    digest = pictures.digests[row]
    return torch.stack([draw_noise(shape, "held out", digest, i) for i in range(timesteps)])


def _part(batch: LatentBatch, start: int, end: int) -> LatentBatch:
    return LatentBatch(**{f.name: getattr(batch, f.name)[start:end].clone() for f in fields(batch)})


def _repeat(value: Tensor, times: int) -> Tensor:
    # Copies: in a matrix product the last bit may depend on where in memory a CPU finds a factor,
    # and a view of a cached file lies elsewhere than what was encoded just now.
    return torch.stack([value] * times)
