"""What goes into each block of a UNet: where do two UNets that should be the same part?"""

import math
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from rasengan_xl.adapters.verification.probe import compare_outputs

_BLOCKS = (BasicTransformerBlock, ResnetBlock2D, Downsample2D, Upsample2D)
_ROUNDINGS = 2 * math.sqrt(2 * 16 / 12)
"""Each of the 16 or so roundings between two blocks is off by eps / sqrt(12) (root mean square),
in both UNets; errors that do not depend on each other add up by their squares.  Twice that."""
_ADDITIONS = 64.0
"""Square root of the some thousand products that each number is a sum of, in float32."""
_INT8_STEP = 8 / 127
"""Step of numbers rounded to 8 bits by the largest of their row, that being 8 times the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The largest difference between two UNets."""

    share: float
    """Of what comes in there (root mean squares)."""
    place: str
    """The block, or `output`."""


def allowed_share(dtype: torch.dtype, *, as_integers: bool) -> float:
    """Return how far rounding alone may set two UNets apart between one block and the next.

    Args:
        dtype: In which they compute.
        as_integers: Whether one of them multiplies int8 numbers.
    """
    step = _INT8_STEP if as_integers else torch.finfo(dtype).eps
    return _ROUNDINGS * step + _ADDITIONS * torch.finfo(torch.float32).eps


@contextmanager
def recorded(unet: UNet2DConditionModel) -> Generator[dict[str, Tensor]]:
    """Keep what goes into each block of a plain UNet while it computes."""
    modules: dict[str, nn.Module] = dict(cast("Any", unet).named_modules())
    kept: dict[str, Tensor] = {}

    def keeper(name: str) -> Any:
        def keep(_: nn.Module, given: tuple[Any, ...]) -> None:
            kept[name] = given[0].detach().clone()

        return keep

    with ExitStack() as hooks:
        for name, module in modules.items():
            if isinstance(module, _BLOCKS):
                hooks.enter_context(module.register_forward_pre_hook(keeper(name)))
        yield kept


@contextmanager
def compared(
    unet: UNet2DConditionModel, expected: Mapping[str, Tensor]
) -> Generator[dict[str, float]]:
    """Give each block what that of another UNet was given, while a UNet computes.

    So differences do not add up from block to block.  Yields, for each block, how far off what
    came in was: a share, as in `Gap`.
    """
    found: dict[str, float] = {}

    def exchanger(name: str) -> Any:
        def exchange(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            found[name] = compare_outputs(expected[name], given[0]).share
            return (expected[name], *given[1:])

        return exchange

    with ExitStack() as hooks:
        for name in expected:
            block = unet.get_submodule(name)
            hooks.enter_context(block.register_forward_pre_hook(exchanger(name)))
        yield found
