"""Where the weights of each layer lie in an adapter that is one piece of memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptedLayer:
    """What an adapter of one linear layer is like."""

    name: str
    """Full name in the UNet."""
    inputs: int
    outputs: int
    rank: int
    scale: float
    """What the product of the factors is multiplied by."""

    @property
    def kind(self) -> tuple[int, int, int, float]:
        """What layers must have in common to be computed at once."""
        return self.inputs, self.outputs, self.rank, self.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Where the layers of one kind lie."""

    layers: tuple[AdaptedLayer, ...]
    down_start: int
    up_start: int
    magnitude_start: int

    def down(self, flat: Tensor) -> Float[Tensor, "layer rank input"]:
        """Return the matrices A of all layers, as a view."""
        one = self.layers[0]
        return _cut(flat, self.down_start, (len(self.layers), one.rank, one.inputs))

    def up(self, flat: Tensor, skipped: int = 0) -> Float[Tensor, "layer output rank"]:
        """Return the matrices B, where the first numbers of the whole are left out."""
        one = self.layers[0]
        return _cut(flat, self.up_start - skipped, (len(self.layers), one.outputs, one.rank))

    def magnitude(self, flat: Tensor) -> Float[Tensor, "layer output"]:
        """Return the magnitudes, of which alone `flat` consists."""
        return _cut(flat, self.magnitude_start, (len(self.layers), self.layers[0].outputs))


def lay_out(
    layers: Sequence[AdaptedLayer], *, decompose: bool
) -> tuple[tuple[Stack, ...], tuple[int, int, int]]:
    """Put layers of one kind together: first all A, then all B, then all magnitudes."""
    kinds: dict[tuple[int, int, int, float], list[AdaptedLayer]] = {}
    for layer in layers:
        kinds.setdefault(layer.kind, []).append(layer)
    downs = sum(layer.rank * layer.inputs for layer in layers)
    ups = sum(layer.rank * layer.outputs for layer in layers)
    stacks: list[Stack] = []
    down, up, magnitude = 0, downs, 0
    for (inputs, outputs, rank, _), members in kinds.items():
        stacks.append(
            Stack(layers=tuple(members), down_start=down, up_start=up, magnitude_start=magnitude)
        )
        down += len(members) * rank * inputs
        up += len(members) * rank * outputs
        magnitude += len(members) * outputs
    return tuple(stacks), (downs, ups, magnitude if decompose else 0)


def _cut(flat: Tensor, start: int, shape: tuple[int, ...]) -> Tensor:
    return flat[start : start + prod(shape)].view(shape)
