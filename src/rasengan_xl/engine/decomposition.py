"""DoRA's gains, once per optimizer step, without making a changed weight.

The squared norm of a row of W + s B A is ||W||^2 + 2 s (A W^T)^T B + s^2 B (A A^T) B^T, of which
the first never changes and the others take products of rank r.  It is of the weights that are
computed with, those in the compute precision, added up in float32; backward takes it as constant
(arXiv:2402.09353, section 4.3).
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from rasengan_xl.engine.flat_adapter import FlatAdapter
from rasengan_xl.engine.projections import Projections
from rasengan_xl.engine.weights import read_briefly


class Decomposition:
    """Keeps the gains of an adapter's layers up to date."""

    @torch.no_grad()
    def __init__(self, adapter: FlatAdapter, groups: Sequence[Projections]) -> None:
        """Measure the base, and set every magnitude to its norm.

        Args:
            adapter: Of zeros, as yet.
            groups: All layers that are adapted, in the order in which they lie.
        """
        self._adapter = adapter
        self._groups = tuple(groups)
        layers, dtype = _in_order(adapter, groups), adapter.weights.dtype
        self._squares = torch.cat(
            [read_briefly(layer).to(dtype).square().sum(dim=1) for layer in layers]
        )
        self._biases = torch.cat([_bias_of(layer).to(dtype) for layer in layers])
        adapter.magnitudes().copy_(self._squares.sqrt())
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Work out the norms and gains of the weights as they are now."""
        adapter = self._adapter
        crossed = iter(self._groups)
        start = 0
        for stack in adapter.stacks:
            down, up = stack.down(adapter.shadow), stack.up(adapter.shadow)
            crosses: list[Tensor] = []
            done = 0
            while done < len(stack.layers):
                group = next(crossed)
                size = len(group.layers)
                crosses.append(group.frozen.cross(down[done : done + size]))
                done += size
            scale = stack.layers[0].scale
            change = _square_change(torch.cat(crosses), down, up, scale, adapter.weights.dtype)
            end = start + change.numel()
            squares = self._squares[start:end] + change.flatten()
            torch.sqrt(squares.clamp_(min=0), out=adapter.norm[start:end])
            start = end
        torch.div(adapter.magnitudes(), adapter.norm, out=adapter.gain)
        torch.addcmul(self._biases, adapter.gain, self._biases, value=-1, out=adapter.shift)


def _square_change(
    cross: Tensor, down: Tensor, up: Tensor, scale: float, dtype: torch.dtype
) -> Tensor:
    """Return by how much each row's squared norm has grown: [layer, output]."""
    down, up = down.to(dtype), up.to(dtype)
    gram = torch.bmm(down, down.transpose(1, 2))
    mixed = torch.bmm(up, gram).mul_(scale).add_(cross.to(dtype).transpose(1, 2), alpha=2)
    return mixed.mul_(up).sum(dim=2).mul_(scale)


def _bias_of(layer: nn.Linear) -> Tensor:
    bias = cast("Tensor | None", layer.bias)
    if bias is not None:
        return bias.detach()
    return torch.zeros(layer.out_features, device=layer.weight.device)


def _in_order(adapter: FlatAdapter, groups: Sequence[Projections]) -> list[nn.Linear]:
    layers = [layer for group in groups for layer in group.layers]
    assert len(layers) == sum(len(stack.layers) for stack in adapter.stacks)
    return layers
