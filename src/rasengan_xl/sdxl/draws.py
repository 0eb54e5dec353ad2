"""Chance, as a function of what it is for: the same key gives the same numbers on any machine.

Nothing is drawn from global state, and everything on the CPU, so that every arm of a
comparison sees the same and a run that was broken off goes on exactly.
"""

import hashlib

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor


def keyed_seed(*key: str | int) -> int:
    """Return 63 bits that depend on every part of the key."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def keyed_generator(*key: str | int) -> Generator:
    """Return a CPU generator that depends on every part of the key."""
    return Generator().manual_seed(keyed_seed(*key))


def draw_noise(shape: tuple[int, ...], *key: str | int) -> Float[Tensor, "..."]:
    """Draw standard normal noise for one key."""
    return torch.randn(shape, generator=keyed_generator(*key))


def stratified_timesteps(seed: int, step: int, count: int, timesteps: int) -> Int[Tensor, " count"]:
    """Draw one timestep from each of `count` equal parts of the schedule, in shuffled order.

    Each is uniform over the schedule on its own, as in plain sampling, but an optimizer step
    never happens to see only high or only low noise, so that its gradient varies less.

    Args:
        seed: Seed of the run.
        step: Optimizer step.
        count: Pictures in the optimizer step, over all its micro-batches.
        timesteps: Length of the noise schedule.
    """
    generator = keyed_generator(seed, "timesteps", step)
    strata = torch.randperm(count, generator=generator)
    places = (strata + torch.rand(count, generator=generator)) / count
    return (places * timesteps).long().clamp(max=timesteps - 1)


def sample_order(seed: int, epoch: int, count: int) -> list[int]:
    """Return the order in which an epoch visits `count` pictures."""
    order = torch.randperm(count, generator=keyed_generator(seed, "order", epoch))
    return [int(row) for row in order]
