"""Loss on held-out pictures over a fixed table of (picture, timestep, noise)."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Int
from torch import Tensor

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.encoded import EncodedPicture, EncodedPictures
from rasengan_xl.dataset.store import content_key
from rasengan_xl.errors import DatasetError, DivergedError
from rasengan_xl.ranks import ALONE, Ranks
from rasengan_xl.runs.records import HeldOutLoss, StageProgress, TableLosses, standard_error
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.draws import draw_noise
from rasengan_xl.sdxl.noise_schedule import NoiseSchedule
from rasengan_xl.sdxl.objective import (
    LatentBatch,
    Objective,
    denoising_losses,
    plain_objective,
)
from rasengan_xl.tensor_file import digest_tensors

Losses = list[list[float]]
"""[picture][timestep]."""


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

    def key(self, most_pictures: int) -> str:
        """Name what the first pictures of the table are, and how they are computed."""
        pictures = self.pictures.pictures[:most_pictures]
        crops = (
            (p.digest, p.wordings[0], p.crops[0].key, p.crops[0].size_numbers) for p in pictures
        )
        schedule = self.objective.schedule
        noise = digest_tensors({"alpha_bars": schedule.alpha_bars}, schedule.prediction_type)
        return content_key(self.timesteps, self.at_once, noise, *crops)

    def chosen_timesteps(self) -> Int[Tensor, " timestep"]:
        """Return the timesteps that every picture is measured at."""
        schedule_length = len(self.objective.schedule.alpha_bars)
        return ((torch.arange(self.timesteps) + 0.5) / self.timesteps * schedule_length).long()

    def batch(self, row: int) -> LatentBatch:
        """Return one picture at all its timesteps.

        All tensors are copies: arithmetic on a view of a mapped file may differ in the last bit
        with where the file puts it.
        """
        pictures, picture = self.pictures, self.pictures.pictures[row]
        latent = pictures.mean(row)
        prompt = pictures.prompt(picture.wordings[0])
        kept = pictures.kept_key_values(picture.wordings[0])
        count, shape = self.timesteps, tuple(latent.shape)
        noise = [draw_noise(shape, "held out", picture.digest, i) for i in range(count)]
        return LatentBatch(
            latents=latent.repeat(count, 1, 1, 1),
            noise=torch.stack(noise),
            timesteps=self.chosen_timesteps(),
            prompts=prompt.states.repeat(count, 1, 1),
            pooled_prompts=prompt.pooled.repeat(count, 1),
            size_numbers=torch.tensor([picture.crops[0].size_numbers]).repeat(count, 1),
            key_values=None if kept is None else kept.clone().expand(count, -1, -1),
        )


def build_table(
    pictures: EncodedPictures, schedule: NoiseSchedule, settings: RunSettings
) -> HeldOutTable:
    """Build the table of some held-out pictures that the settings ask for.

    Raises:
        DatasetError: The pictures set aside for tuning leave none to report on.
    """
    tuning = settings.evaluation.tuning_pictures
    reported = reported_rows(pictures.pictures, tuning)
    if not reported:
        raise DatasetError(
            f"{len(pictures)} pictures are held out, of which evaluation.tuning_pictures = "
            f"{tuning}, with copies of them, leave none to report on: hold out more "
            "(--set dataset.held_out_minimum=...), or tune on fewer"
        )
    on_tuning = settings.evaluation.split == "tuning"
    rows = [row for row in range(len(pictures)) if (row not in reported) == on_tuning]
    return HeldOutTable(
        pictures=replace(pictures, pictures=[pictures.pictures[row] for row in rows]),
        objective=plain_objective(schedule),
        timesteps=settings.evaluation.timesteps,
        at_once=settings.training.batch_size,
    )


def reported_rows(pictures: Sequence[EncodedPicture], tuning: int) -> tuple[int, ...]:
    """Return which held-out pictures are reported on: all but the first, and copies of those.

    Args:
        pictures: All that are held out.
        tuning: How many are set aside to tune on.
    """
    # An encoded crop is named by its picture's content, without the caption.
    tuned = {picture.crops[0].key for picture in pictures[:tuning]}
    return tuple(row for row, each in enumerate(pictures) if each.crops[0].key not in tuned)


def tabulate_losses(table: HeldOutTable, base: Losses, adapted: Losses) -> TableLosses:
    """Put the losses of base and adapted model beside the pictures they are of."""
    pictures = table.pictures.pictures[: len(base)]
    return TableLosses(
        pictures=[picture.name for picture in pictures],
        digests=[picture.digest for picture in pictures],
        timesteps=cast("list[int]", table.chosen_timesteps().tolist()),
        base=base,
        adapted=adapted,
    )


def summarise_losses(losses: TableLosses) -> HeldOutLoss:
    """Return means, standard errors over pictures, and the paired difference."""
    base, adapted = (picture_means(rows) for rows in (losses.base, losses.adapted))
    differences = [a - b for a, b in zip(adapted, base, strict=True)]
    count = len(base)
    return HeldOutLoss(
        base=sum(base) / count,
        adapted=sum(adapted) / count,
        n=count * len(losses.timesteps),
        base_standard_error=standard_error(base),
        adapted_standard_error=standard_error(adapted),
        difference=sum(differences) / count,
        difference_standard_error=standard_error(differences),
    )


def picture_means(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean over timesteps of each picture."""
    return [sum(row) / len(row) for row in rows]


def measure_losses(
    unet: UNet2DConditionModel,
    table: HeldOutTable,
    most_pictures: int,
    compute: Compute,
    ranks: Ranks = ALONE,
) -> Generator[StageProgress, None, Losses]:
    """Measure the model as it stands on the first pictures of a table; training is not changed.

    Returns:
        For each picture, in order, its loss at every timestep.

    Raises:
        DivergedError: A loss is not finite.
    """
    count = min(most_pictures, len(table.pictures))
    own: list[tuple[int, list[float]]] = []
    for row in range(ranks.rank, count, ranks.count):
        own.append((row, _measure_row(unet, table, row, compute)))
        yield StageProgress(stage="held-out loss", done=row + 1, total=count)
    everywhere: list[list[tuple[int, list[float]]]] = ranks.gather(own)
    gathered = sorted(pair for part in everywhere for pair in part)
    for row, losses in gathered:
        if not all(map(math.isfinite, losses)):
            raise DivergedError(
                f"held-out picture {table.pictures.pictures[row].name}: a loss is not finite "
                f"({losses}); lower training.learning_rate, or use compute.precision = 'bf16' or "
                "'fp32'"
            )
    return [losses for _, losses in gathered]


@torch.no_grad()
def _measure_row(
    unet: UNet2DConditionModel, table: HeldOutTable, row: int, compute: Compute
) -> list[float]:
    was_training = unet.training
    unet.eval()  # no adapter dropout
    batch = table.batch(row)
    losses: list[Tensor] = []
    for start in range(0, table.timesteps, table.at_once):
        part = batch.part(start, start + table.at_once).to(compute.device)
        with compute.autocast():
            losses.append(denoising_losses(unet, part, table.objective))
    unet.train(was_training)
    return cast("list[float]", torch.cat(losses).tolist())
