"""Proof of what a run was shown: one hash over every picture, timestep and noise, in order."""

import hashlib

from torch import Tensor


class TraceHash:
    """A hash that grows with each step; runs shown the same have the same one."""

    def __init__(self, state: str = "") -> None:
        self.state = state

    def update(self, step: int, digests: list[str], *tensors: Tensor) -> None:
        """Take in what one micro-batch showed.

        Args:
            step: Optimizer step.
            digests: Identities of its pictures.
            tensors: Everything that was drawn for them, on the CPU.
        """
        digest = hashlib.sha256(f"{self.state} {step} {' '.join(digests)}".encode())
        for tensor in tensors:
            digest.update(tensor.contiguous().numpy().tobytes())
        self.state = digest.hexdigest()
