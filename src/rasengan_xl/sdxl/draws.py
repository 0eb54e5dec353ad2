"""Chance, as a function of what it is for: the same key gives the same numbers on any machine.

Nothing is drawn from global state, and everything on the CPU, so that every arm of a
comparison sees the same and a run that was broken off goes on exactly.
"""

import hashlib

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

_FINENESS = 2**32
"""Places within a stratum; with 2**20 pictures of 2**10 timesteps still below 2**63."""


def keyed_seed(*key: str | int) -> int:
    """Return 63 bits that depend on every part of the key; torch's CPU generator takes 32."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def keyed_generator(*key: str | int) -> Generator:
    """Return a CPU generator that depends on every part of the key."""
    return Generator().manual_seed(keyed_seed(*key))


def draw_noise(shape: tuple[int, ...], *key: str | int) -> Float[Tensor, "..."]:
    """Draw standard normal noise for one key."""
    return torch.randn(shape, generator=keyed_generator(*key))


def offset_noise(
    noise: Float[Tensor, "channel height width"],
    shift: Float[Tensor, " channel"],
    strength: float,
) -> Float[Tensor, "channel height width"]:
    """Shift each channel of a picture's noise as a whole.

    Plain noise hardly changes a picture's mean, so that a model trained on it draws neither
    night nor snow (crosslabs.org/blog/diffusion-with-offset-noise).

    Args:
        noise: Noise of one picture.
        shift: A normal draw for each channel.
        strength: Deviation of the shift.
    """
    return noise + strength * shift[:, None, None]


def timestep_span(range_shares: tuple[float, float], length: int) -> range:
    """Return the timesteps between two shares of a noise schedule, at least one.

    Args:
        range_shares: Begin and end, from 0, clean, to 1, all noise.
        length: Timesteps of the whole schedule.
    """
    start = min(round(range_shares[0] * length), length - 1)
    return range(start, max(round(range_shares[1] * length), start + 1))


def draw_timesteps(
    seed: int, step: int, count: int, span: range, sampling: str
) -> Int[Tensor, " count"]:
    """Draw a timestep for each picture of an optimizer step, each uniform over the span.

    Stratified ones come one from each of `count` equal parts of the span, in shuffled order
    (arXiv:2107.00630, appendix I.1, with a draw of its own for each part): a step never happens
    to see only high or only low noise, so that its gradient varies less.

    Args:
        seed: Seed of the run.
        step: Optimizer step.
        count: Pictures in the optimizer step, over all its micro-batches and processes.
        span: Timesteps to draw from.
        sampling: `stratified` or `uniform`.
    """
    generator = keyed_generator(seed, "timesteps", step)
    if sampling == "uniform":
        return torch.randint(span.start, span.stop, (count,), generator=generator)
    strata = torch.randperm(count, generator=generator)
    # A place in [0, 1) times count, in whole numbers: no rounding leads into the next part.
    places = strata * _FINENESS + torch.randint(_FINENESS, (count,), generator=generator)
    return span.start + places * len(span) // (count * _FINENESS)
