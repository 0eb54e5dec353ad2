"""Carry a DoRA that was trained on an NF4 base over to the weights that NF4 was made from.

Its magnitudes began as the norms of the rounded rows.  Each is multiplied by the norm of the
unrounded row over that, so that a magnitude that was not moved is again its row's norm.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from rasengan_xl.adapters.changes import Change, Decomposed, Weight
from rasengan_xl.adapters.consumers.evaluation import row_norms
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.nf4_layers import round_to_nf4

_TINY = torch.finfo(torch.float32).tiny
RESCALE = "rescale magnitudes"
"""The stage of the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescaled:
    """An adapter for the unrounded base, and by how much its magnitudes were changed."""

    contents: AdapterContents
    median: float
    smallest: float
    largest: float
    """Of the factors of all magnitudes."""

    @property
    def note(self) -> str:
        """What a user is told of it."""
        return (
            "trained on an NF4 base: DoRA's magnitudes are multiplied by the norm of the 16-bit "
            f"row over that of its NF4 form, median {self.median:.5f}, from {self.smallest:.5f} "
            f"to {self.largest:.5f}"
        )


def rescale_magnitudes(
    contents: AdapterContents, weight_of: Callable[[str], Weight]
) -> Generator[StageProgress, None, Rescaled]:
    """Rescale every magnitude, a layer at a time.

    Args:
        contents: A DoRA with magnitudes by output.
        weight_of: Reads a layer's unrounded weight.
    """
    changes: dict[str, Change] = {}
    factors: list[Float[Tensor, " out"]] = []
    for done, (layer, change) in enumerate(contents.changes.items(), start=1):
        if isinstance(change, Decomposed) and change.axis == "output":
            factor = norm_ratio(weight_of(layer))
            factors.append(factor)
            scaled = change.magnitude.float().flatten() * factor
            change = replace(change, magnitude=scaled)  # noqa: PLW2901
        changes[layer] = change
        yield StageProgress(stage=RESCALE, done=done, total=len(contents.changes))
    every = torch.cat(factors)
    return Rescaled(
        contents=replace(contents, changes=changes),
        median=every.median().item(),
        smallest=every.min().item(),
        largest=every.max().item(),
    )


def norm_ratio(weight: Weight) -> Float[Tensor, " out"]:
    """Return each row's norm over that of its NF4 form; 1 for a row of zeros."""
    rows = row_norms(weight.float().flatten(1))
    rounded = row_norms(round_to_nf4(weight).flatten(1))
    return torch.where(rounded > 0, rows / rounded.clamp(min=_TINY), 1.0)
