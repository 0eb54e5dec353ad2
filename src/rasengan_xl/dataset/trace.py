"""Proof of what a run was shown: one hash over every picture, timestep and noise, in order."""

import hashlib
from collections.abc import Iterable

from torch import Tensor


class TraceHash:
    """A hash that grows with each step; runs shown the same have the same one."""

    def __init__(self, state: str = "") -> None:
        self.state = state

    def update(self, step: int, shown: Iterable[str]) -> None:
        """Take in one optimizer step.

        How it was cut into micro-batches, and which process took which, leaves no mark.

        Args:
            step: Optimizer step.
            shown: Hash of everything drawn for each picture, in the order of the step.
        """
        self.state = hashlib.sha256(f"{self.state} {step} {' '.join(shown)}".encode()).hexdigest()


def hash_draws(digest: str, *draws: Tensor | int | bool) -> str:
    """Hash one picture's identity together with all that was drawn for it."""
    running = hashlib.sha256(digest.encode())
    for draw in draws:
        if isinstance(draw, Tensor):
            running.update(draw.contiguous().numpy().tobytes())
        else:
            running.update(f" {int(draw)}".encode())
    return running.hexdigest()[:32]
