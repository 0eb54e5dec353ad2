"""The endless stream of training batches: a function of (seed, step) alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.encoded import EncodedPictures
from rasengan_xl.dataset.order import PictureOrder
from rasengan_xl.dataset.trace import hash_draws
from rasengan_xl.ranks import Ranks
from rasengan_xl.sdxl.draws import (
    draw_noise,
    draw_timesteps,
    keyed_generator,
    keyed_seed,
    offset_noise,
    timestep_span,
)
from rasengan_xl.sdxl.objective import LatentBatch, join_batches


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """How a step is composed, and what is drawn for its pictures."""

    batch_size: int
    """Pictures per micro-batch."""
    per_step: int
    """Pictures in an optimizer step, over all micro-batches and processes."""
    seed: int
    timesteps: range
    """Part of the noise schedule that is trained on."""
    timestep_sampling: str
    noise_offset: float
    caption_dropout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPicture:
    """What was drawn for one picture of a step."""

    slot: int
    """Place in the step, over all micro-batches and processes."""
    name: str
    timestep: int
    trace: str
    """Hash of picture and draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPart:
    """What one process computes in one optimizer step."""

    step: int
    batches: Sequence[LatentBatch]
    """Micro-batches, each of one size: one of mixed sizes has been taken apart."""
    shown: Sequence[Sequence[ShownPicture]]
    """Of each batch."""

    def pinned(self) -> "StepPart":
        """Copy the batches to where a GPU fetches them by itself."""
        return replace(self, batches=[batch.pinned() for batch in self.batches])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStream:
    """The parts of any step, in any order of asking; may be asked from several threads."""

    pictures: EncodedPictures
    draws: Draws
    order: PictureOrder

    def part(self, step: int, ranks: Ranks) -> StepPart:
        """Read and draw what a process computes in a step.

        Everything is drawn by place in the whole step, so that how it is cut into micro-batches
        and shared out changes nothing.

        Args:
            step: Optimizer step, from 1.
            ranks: Which process, of how many.
        """
        rows = self.order.rows(step)
        draws = self.draws
        timesteps = draw_timesteps(
            draws.seed, step, draws.per_step, draws.timesteps, draws.timestep_sampling
        )
        batches: list[LatentBatch] = []
        shown: list[list[ShownPicture]] = []
        for slots in self._micro_batches(rows, ranks):
            samples = [self._sample(step, s, rows[s], int(timesteps[s])) for s in slots]
            batches.append(join_batches([sample for sample, _ in samples]))
            shown.append([picture for _, picture in samples])
        return StepPart(step=step, batches=batches, shown=shown)

    def _micro_batches(self, rows: list[int], ranks: Ranks) -> Iterator[list[int]]:
        """Yield the slots of each of a process's batches: of micro-batches, those of one size."""

        def size(slot: int) -> tuple[int, int]:
            return self.pictures.pictures[rows[slot]].size

        length = self.draws.batch_size
        for start in range(ranks.rank * length, self.draws.per_step, ranks.count * length):
            for _, slots in groupby(sorted(range(start, start + length), key=size), key=size):
                yield list(slots)

    def _sample(
        self, step: int, slot: int, row: int, timestep: int
    ) -> tuple[LatentBatch, ShownPicture]:
        """Read one picture and draw all that belongs to it."""
        source, picture = self.pictures, self.pictures.pictures[row]
        key = (self.draws.seed, step, slot, picture.digest)
        variant = keyed_seed("variant", *key) % len(picture.crops)
        wording = keyed_seed("wording", *key) % len(picture.wordings)
        keeps_caption = self._keeps_caption(key)
        crop = picture.crops[variant]
        posterior = source.posterior(crop)
        shape = tuple(posterior.mean.shape)
        jitter = draw_noise(shape, "posterior", *key)
        noise = self._noise(shape, key)
        caption = picture.wordings[wording] if keeps_caption else source.null_key
        prompt = source.prompt(caption) if keeps_caption else source.null_prompt
        latent = (posterior.mean + posterior.deviation * jitter) * source.scaling_factor
        trace = hash_draws(picture.digest, variant, wording, timestep, keeps_caption, jitter, noise)
        sample = LatentBatch(
            latents=latent[None],
            noise=noise[None],
            timesteps=torch.tensor([timestep]),
            prompts=prompt.states,
            pooled_prompts=prompt.pooled,
            size_numbers=torch.tensor([crop.size_numbers]),
            key_values=source.kept_key_values(caption),
        )
        return sample, ShownPicture(slot=slot, name=picture.name, timestep=timestep, trace=trace)

    def _noise(self, shape: tuple[int, ...], key: tuple[int, int, int, str]) -> Tensor:
        noise = draw_noise(shape, "noise", *key)
        if not self.draws.noise_offset:
            return noise
        shift = draw_noise((shape[0],), "offset", *key)
        return offset_noise(noise, shift, self.draws.noise_offset)

    def _keeps_caption(self, key: tuple[int, int, int, str]) -> bool:
        """Draw whether a caption stays; one draw for both encoders and the pooled prompt."""
        draw = torch.rand((), generator=keyed_generator("caption", *key)).item()
        return draw >= self.draws.caption_dropout


def build_stream(
    pictures: EncodedPictures, settings: RunSettings, schedule_length: int, ranks: Ranks
) -> TrainingStream:
    """Build the stream that the settings ask for.

    Args:
        pictures: To train on.
        settings: Of the run.
        schedule_length: Timesteps of the model's noise schedule.
        ranks: How many processes share a step.
    """
    training = settings.training
    per_step = training.batch_size * training.accumulation * ranks.count
    return TrainingStream(
        pictures=pictures,
        draws=Draws(
            batch_size=training.batch_size,
            per_step=per_step,
            seed=settings.seed,
            timesteps=timestep_span(settings.objective.timestep_range, schedule_length),
            timestep_sampling=settings.objective.timestep_sampling,
            noise_offset=settings.objective.noise_offset,
            caption_dropout=settings.caption.dropout,
        ),
        order=PictureOrder(
            sizes=[picture.size for picture in pictures.pictures],
            per_step=per_step,
            seed=settings.seed,
        ),
    )
