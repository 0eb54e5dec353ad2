"""The endless stream of training batches: a function of (seed, step) alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rasengan_xl.config.training_settings import TrainingSettings
from rasengan_xl.dataset.encoded import EncodedPictures
from rasengan_xl.dataset.trace import TraceHash
from rasengan_xl.sdxl.draws import (
    draw_noise,
    draw_timesteps,
    keyed_generator,
    keyed_seed,
    sample_order,
)
from rasengan_xl.sdxl.objective import LatentBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStream:
    """Batches for any step, in any order of asking."""

    pictures: EncodedPictures
    settings: TrainingSettings
    seed: int
    timesteps: int
    """Length of the model's noise schedule."""

    def micro_batches(self, step: int, trace: TraceHash) -> Iterator[LatentBatch]:
        """Yield the micro-batches of one optimizer step, and note them in the trace.

        Everything is drawn for the pictures of the whole step, so that how it is cut into
        micro-batches changes nothing.

        Args:
            step: Optimizer step, from 1.
            trace: Takes in what is shown.
        """
        size = self.settings.batch_size * self.settings.accumulation
        rows = self._rows(step, size)
        timesteps = draw_timesteps(self.seed, step, size, range(self.timesteps), "stratified")
        for start in range(0, size, self.settings.batch_size):
            slots = range(start, start + self.settings.batch_size)
            chosen = timesteps[slots.start : slots.stop]
            yield self._batch(step, {slot: rows[slot] for slot in slots}, chosen, trace)

    def _rows(self, step: int, size: int) -> list[int]:
        """Return the rows that a step visits: epochs in shuffled order, end to end."""
        count = len(self.pictures)
        positions = range((step - 1) * size, step * size)
        epochs = {position // count for position in positions}
        orders = {epoch: sample_order(self.seed, epoch, count) for epoch in epochs}
        return [orders[position // count][position % count] for position in positions]

    def _batch(
        self, step: int, rows: dict[int, int], timesteps: Tensor, trace: TraceHash
    ) -> LatentBatch:
        source = self.pictures
        keys = [(self.seed, step, slot, source.digests[row]) for slot, row in rows.items()]
        chosen = torch.tensor(list(rows.values()))
        variants = torch.tensor([keyed_seed("variant", *k) % source.means.shape[1] for k in keys])
        shape = tuple(source.means.shape[2:])
        noise = torch.stack([draw_noise(shape, "noise", *key) for key in keys])
        jitter = torch.stack([draw_noise(shape, "posterior", *key) for key in keys])
        kept = torch.tensor([self._keeps_caption(key) for key in keys])
        digests = [source.digests[row] for row in rows.values()]
        trace.update(step, digests, variants, timesteps, noise, jitter, kept)

        captions = source.captions[chosen]
        latents = source.means[chosen, variants] + source.deviations[chosen, variants] * jitter
        return LatentBatch(
            latents=latents * source.scaling_factor,
            noise=noise,
            timesteps=timesteps,
            prompts=source.prompts[captions] * kept[:, None, None],
            pooled_prompts=source.pooled_prompts[captions] * kept[:, None],
            size_numbers=source.size_numbers[chosen, variants],
        )

    def _keeps_caption(self, key: tuple[int, int, int, str]) -> bool:
        """Draw whether a caption stays; one draw for both encoders and the pooled prompt."""
        draw = torch.rand((), generator=keyed_generator("caption", *key)).item()
        return draw >= self.settings.caption_dropout
