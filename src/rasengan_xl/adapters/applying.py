"""Put adapters on loaded weights, at any strength, and take them off again exactly."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from rasengan_xl.adapters.changes import Change, changed_weight, weight_change
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.unfused import UnfusedChange
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.layers import layer_modules

Weighted = tuple[Change, float]
"""A change of a layer, and its strength."""


LEAST_KEPT = 0.98
"""Share of a change, along itself, that rounding must leave.  A change smaller than half a step of
its weight's type rounds away: one of 0.1 % of a weight keeps half of itself in bfloat16."""


class FusedChange:
    """A layer whose weight is replaced by the changed one: as fast as the base itself.

    A change too small for the weight's precision is computed beside the layer instead.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        self._layer = layer
        self._base = layer.weight.detach().to("cpu", copy=True)  # not where memory is scarce
        self._beside: UnfusedChange | None = None

    @torch.no_grad()
    def set(self, changes: Sequence[Weighted]) -> None:
        """Mix the changes into the weight, rounding once to the layer's precision."""
        self._take_aside()
        weight = self._layer.weight
        base = self._base.to(weight.device)
        mixed = _mix(base, changes)
        rounded = mixed.to(weight.dtype)
        if _keeps(base, mixed, rounded):
            weight.copy_(rounded)
            return
        weight.copy_(base)
        self._beside = UnfusedChange(self._layer)
        self._beside.set(changes)

    @torch.no_grad()
    def remove(self) -> None:
        """Give the layer its own weight back, to the bit."""
        self._take_aside()
        self._layer.weight.copy_(self._base)

    def _take_aside(self) -> None:
        if self._beside is not None:
            self._beside.remove()
            self._beside = None


class AppliedAdapters:
    """Adapters that are on a model."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        contents: Sequence[AdapterContents],
        *,
        fuse: bool,
    ) -> None:
        self._contents = contents
        self._layers: dict[str, FusedChange | UnfusedChange] = {
            name: _take_hold(modules[name], fuse=fuse)
            for name in dict.fromkeys(name for each in contents for name in each.changes)
        }

    def set_strengths(self, strengths: Sequence[float]) -> None:
        """Move every weight by each adapter's change times its strength.

        At 0 the base computes as without adapters, and one adapter at 1 is exactly itself: a
        strength is a way between both weights, for DoRA as for LoRA.

        Args:
            strengths: One for each adapter; may be negative or above 1.
        """
        pairs = list(zip(self._contents, strengths, strict=True))
        for name, layer in self._layers.items():
            layer.set(
                [
                    (each.changes[name], strength)
                    for each, strength in pairs
                    if strength and name in each.changes
                ]
            )

    def remove(self) -> None:
        """Take them off."""
        for layer in self._layers.values():
            layer.remove()


@contextmanager
def applied(
    parts: Mapping[str, nn.Module],
    contents: Sequence[AdapterContents],
    strengths: Sequence[float],
    *,
    fuse: bool = True,
) -> Generator[AppliedAdapters]:
    """Put adapters on the parts of a model, and take them off at the end.

    Args:
        parts: UNet and text encoders, by their folder's name; changed in place.
        contents: The adapters.
        strengths: One for each.
        fuse: Change the weights themselves, which costs nothing while drawing, but rounds to
            their precision.  Layers stored in fewer bits are never fused.

    Raises:
        AdapterError: An adapter changes a layer that is not there, or one of another shape.
    """
    modules = layer_modules(parts)
    for each in contents:
        _refuse_homeless(each, modules)
    adapters = AppliedAdapters(modules, contents, fuse=fuse)
    try:
        adapters.set_strengths(strengths)
        yield adapters
    finally:
        adapters.remove()


def _refuse_homeless(contents: AdapterContents, modules: Mapping[str, nn.Module]) -> None:
    homeless = [name for name in contents.changes if name not in modules]
    if homeless:
        raise AdapterError(
            f"{contents.source}: changes {len(homeless)} layers that this base model has not, "
            f"first {homeless[0]}; use the base it was trained on"
        )


def _take_hold(layer: nn.Module, *, fuse: bool) -> FusedChange | UnfusedChange:
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    is_float = layer.weight.dtype.is_floating_point
    return FusedChange(layer) if fuse and is_float else UnfusedChange(layer)


def _mix(base: torch.Tensor, changes: Sequence[Weighted]) -> torch.Tensor:
    match changes:
        case []:
            return base
        case [(change, strength)]:  # exact at both ends, which base + 1 * (new - base) is not
            weight = base.float()
            return torch.lerp(weight, changed_weight(change, weight), strength)
        case _:
            weight = base.float()
            return weight + sum(
                strength * weight_change(change, weight) for change, strength in changes
            )


def _keeps(base: torch.Tensor, mixed: torch.Tensor, rounded: torch.Tensor) -> bool:
    """Tell whether rounding leaves what a change does: noise averages out, a loss does not."""
    if rounded.dtype == mixed.dtype:
        return True
    change, left = mixed - base.float(), rounded.float() - base.float()
    size = float(change.square().sum())
    return size == 0 or float((left * change).sum()) >= LEAST_KEPT * size
