"""Loss on held-out pictures over a fixed table of (picture, timestep, noise)."""

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from rasengan_xl.adapters.attach import Adapter
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.encoded import EncodedPictures
from rasengan_xl.errors import DivergedError
from rasengan_xl.ranks import ALONE, Ranks
from rasengan_xl.runs.records import HeldOutLoss, StageProgress, standard_error
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.draws import draw_noise
from rasengan_xl.sdxl.noise_schedule import NoiseSchedule
from rasengan_xl.sdxl.objective import (
    LatentBatch,
    Objective,
    denoising_losses,
    plain_objective,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutTable:
    """A fixed table of (picture, timestep, noise).

    It depends on the pictures alone, neither on the run's seed nor on its arm; the loss on it is
    the unweighted squared error, whatever the run was trained with.
    """

    pictures: EncodedPictures
    objective: Objective
    timesteps: int
    """Per picture, in the middle of equal parts of the schedule."""
    at_once: int
    """Entries per forward pass; as many as a training step has need no more memory."""

    def batch(self, row: int) -> LatentBatch:
        """Return one picture at all its timesteps.

        All tensors are copies: arithmetic on a view of a mapped file may differ in the last bit
        with where the file puts it.
        """
        pictures, picture = self.pictures, self.pictures.pictures[row]
        latent = pictures.mean(row)
        prompt = pictures.prompt(picture.wordings[0])
        count, shape = self.timesteps, tuple(latent.shape)
        noise = [draw_noise(shape, "held out", picture.digest, i) for i in range(count)]
        schedule_length = len(self.objective.schedule.alpha_bars)
        return LatentBatch(
            latents=latent.repeat(count, 1, 1, 1),
            noise=torch.stack(noise),
            timesteps=((torch.arange(count) + 0.5) / count * schedule_length).long(),
            prompts=prompt.states.repeat(count, 1, 1),
            pooled_prompts=prompt.pooled.repeat(count, 1),
            size_numbers=torch.tensor([picture.crops[0].size_numbers]).repeat(count, 1),
        )


def build_table(
    pictures: EncodedPictures, schedule: NoiseSchedule, settings: RunSettings
) -> HeldOutTable:
    """Build the table of some held-out pictures that the settings ask for."""
    return HeldOutTable(
        pictures=pictures,
        objective=plain_objective(schedule),
        timesteps=settings.evaluation.timesteps,
        at_once=settings.training.batch_size,
    )


def measure_held_out_loss(
    adapter: Adapter,
    table: HeldOutTable,
    most_pictures: int,
    compute: Compute,
    ranks: Ranks = ALONE,
) -> Generator[StageProgress, None, HeldOutLoss]:
    """Measure the loss of base and adapted model on the same table.

    Args:
        adapter: The adapted model.
        table: What to measure on.
        most_pictures: Use the first so many.
        compute: Where.
        ranks: Who shares the work.

    Raises:
        DivergedError: A loss is not finite.
    """
    adapted = yield from measure_losses(adapter, table, most_pictures, compute, ranks)
    with adapter.disabled():
        base = yield from measure_losses(adapter, table, most_pictures, compute, ranks)
    differences = [a - b for a, b in zip(adapted, base, strict=True)]
    count = len(base)
    return HeldOutLoss(
        base=sum(base) / count,
        adapted=sum(adapted) / count,
        n=count * table.timesteps,
        base_standard_error=standard_error(base),
        adapted_standard_error=standard_error(adapted),
        difference=sum(differences) / count,
        difference_standard_error=standard_error(differences),
    )


def measure_losses(
    adapter: Adapter, table: HeldOutTable, most_pictures: int, compute: Compute, ranks: Ranks
) -> Generator[StageProgress, None, list[float]]:
    """Measure the model as it stands on the first pictures of a table; training is not changed.

    Returns:
        The mean loss of each picture, in order.

    Raises:
        DivergedError: A loss is not finite.
    """
    count = min(most_pictures, len(table.pictures))
    own: list[list[float]] = []
    for row in range(ranks.rank, count, ranks.count):
        own.append([row, _measure_row(adapter, table, row, compute)])
        yield StageProgress(stage="held-out loss", done=row + 1, total=count)
    losses = [loss for _, loss in sorted(pair for pairs in ranks.gather(own) for pair in pairs)]
    for row, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise DivergedError(
                f"held-out picture {table.pictures.pictures[row].name}: the loss is {loss}; "
                "lower training.learning_rate, or use compute.precision = 'bf16' or 'fp32'"
            )
    return losses


@torch.no_grad()
def _measure_row(adapter: Adapter, table: HeldOutTable, row: int, compute: Compute) -> float:
    was_training = adapter.unet.training
    adapter.unet.eval()  # no adapter dropout
    batch = table.batch(row)
    losses: list[Tensor] = []
    for start in range(0, table.timesteps, table.at_once):
        part = batch.part(start, start + table.at_once).to(compute.device)
        with compute.autocast():
            losses.append(denoising_losses(adapter.unet, part, table.objective))
    adapter.unet.train(was_training)
    return torch.cat(losses).mean().item()
