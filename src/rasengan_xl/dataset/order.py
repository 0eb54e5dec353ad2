"""In which order pictures are shown: every one once an epoch, and like sizes together."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import cast

import torch

from rasengan_xl.sdxl.draws import keyed_generator

EPOCHS_KEPT = 2
"""Orders of epochs that are remembered: a step, and those read ahead, seldom span more."""


class PictureOrder:
    """The endless order of pictures: epochs end to end, cut into steps of equal length.

    No picture is dropped and no step is short: where an epoch ends within a step, the next one
    begins there.  As far as they go round, the pictures of a step are of one size; the rest of
    each size makes up mixed steps, which are computed size by size.
    """

    def __init__(self, *, sizes: Sequence[Hashable], per_step: int, seed: int) -> None:
        """Lay down what the order depends on.

        Args:
            sizes: Of each picture.
            per_step: Pictures in an optimizer step, over all micro-batches and processes.
            seed: Of the run.
        """
        self._sizes = sizes
        self._per_step = per_step
        self._seed = seed
        # To arrange 100,000 pictures takes longer than a step; threads may ask at once.
        self._arranged = lru_cache(maxsize=EPOCHS_KEPT)(self._arrange)

    def rows(self, step: int) -> list[int]:
        """Return the pictures of an optimizer step; steps count from 1."""
        count = len(self._sizes)
        places = range((step - 1) * self._per_step, step * self._per_step)
        epochs = {place // count for place in places}
        orders = {epoch: self._arranged(epoch) for epoch in epochs}
        return [orders[place // count][place % count] for place in places]

    def _arrange(self, epoch: int) -> list[int]:
        """Order the pictures of an epoch so that whole steps within it have one size."""
        count = len(self._sizes)
        generator = keyed_generator(self._seed, "order", epoch)
        shuffled = _shuffle(range(count), generator)
        if len(set(self._sizes)) == 1:
            return shuffled
        by_size: dict[Hashable, list[int]] = defaultdict(list)
        for row in shuffled:
            by_size[self._sizes[row]].append(row)
        # Groups come in order of first appearance, so the rest is shuffled, and like with like.
        uniform, rest = _cut_into_steps(list(by_size.values()), self._per_step)

        # The first places complete the step in which the epoch before this one ended.
        head = min(-epoch * count % self._per_step, count)
        while len(rest) < head:
            rest += uniform.pop()
        mixed = [rest[i : i + self._per_step] for i in range(head, len(rest), self._per_step)]
        tail = mixed.pop() if mixed and len(mixed[-1]) < self._per_step else []
        steps = [*uniform, *mixed]
        ordered = [row for place in _shuffle(range(len(steps)), generator) for row in steps[place]]
        return [*rest[:head], *ordered, *tail]


def _cut_into_steps(groups: list[list[int]], length: int) -> tuple[list[list[int]], list[int]]:
    """Cut each group into pieces of a length; also return what is left of all of them."""
    whole: list[list[int]] = []
    rest: list[int] = []
    for group in groups:
        end = len(group) - len(group) % length
        whole += [group[start : start + length] for start in range(0, end, length)]
        rest += group[end:]
    return whole, rest


def _shuffle(items: range, generator: torch.Generator) -> list[int]:
    places = cast("list[int]", torch.randperm(len(items), generator=generator).tolist())
    return [items[place] for place in places]
