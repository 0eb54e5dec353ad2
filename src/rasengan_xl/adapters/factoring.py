"""Write a weight change as a product of two factors of low rank, as near as can be."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rasengan_xl.adapters.changes import LowRank, Weight


def factorise(change: Weight, rank: int) -> tuple[LowRank, Float[Tensor, ""]]:
    """Find the factors whose product is nearest to a weight change (Eckart and Young 1936).

    Both get the same share of each singular value, and alpha is the rank, so that the scale is 1.

    Args:
        change: In float32.
        rank: Of the factors; beyond what the change has, they are filled with zeros.

    Returns:
        The factors, and the Frobenius norm of what they leave out.
    """
    decompose: Any = torch.linalg.svd  # carries no full types
    left, values, right = decompose(change.flatten(1), full_matrices=False)
    kept = min(rank, len(values))
    root = values[:kept].sqrt()
    up = change.new_zeros(change.shape[0], rank)
    down = change.new_zeros(rank, right.shape[1])
    up[:, :kept] = left[:, :kept] * root
    down[:kept] = root[:, None] * right[:kept]
    factors = LowRank(
        down=down.reshape(rank, *change.shape[1:]),
        up=up.reshape(change.shape[0], rank, *(1,) * (change.dim() - 2)),
        alpha=float(rank),
    )
    return factors, values[kept:].square().sum().sqrt()
