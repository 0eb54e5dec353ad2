"""How much of a GPU's memory an optimizer keeps for each trained weight."""

from collections.abc import Collection

from torch import Tensor

_FLOAT = 4
_MOMENTS = {
    "adamw": 2 * _FLOAT,
    "prodigy": 4 * _FLOAT,  # both moments, the first weights, and their distance's numerator
    "schedule_free_adamw": 2 * _FLOAT,  # the second moment, and the iterate beside the average
}
_EIGHT_BIT = 2 * (1 + _FLOAT / 256)
"""Two moments of a byte a weight, and a scale for each 256 (arXiv:2110.02861)."""
_LEAST_FOR_EIGHT_BIT = 4096
"""bitsandbytes keeps the moments of smaller tensors in float32."""


def moments_bytes(trained: Collection[Tensor], optimizer: str) -> int:
    """Return what an optimizer keeps on the GPU beside weights and gradients.

    Args:
        trained: What it is given.
        optimizer: As `training.optimizer` names it.
    """
    if optimizer not in {"adamw8bit", "paged_adamw8bit"}:
        return sum(weights.numel() for weights in trained) * _MOMENTS[optimizer]
    per_weight = 0.0 if optimizer == "paged_adamw8bit" else _EIGHT_BIT
    return sum(
        int(weights.numel() * (per_weight if weights.numel() >= _LEAST_FOR_EIGHT_BIT else 8))
        for weights in trained
    )


def step_end_bytes(count: int, optimizer: str) -> int:
    """Return how much is read and written to clip gradients and change the weights.

    The norm reads gradients once, clipping reads and writes them; AdamW reads gradient, weight
    and moments, and writes all but the gradient; then the shadow is written.

    Args:
        count: Trained weights.
        optimizer: As `training.optimizer` names it.
    """
    moments = 2.0 if "8bit" in optimizer else _MOMENTS[optimizer]
    return int(count * (3 * _FLOAT + 3 * _FLOAT + 2 * moments + _FLOAT + 2))
