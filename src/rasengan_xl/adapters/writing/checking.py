"""How far what a program makes of a file is from the weight change that was trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rasengan_xl.adapters.changes import LowRank, Weight
from rasengan_xl.adapters.consumers.a1111 import a1111_changes
from rasengan_xl.adapters.consumers.comfyui import comfyui_changes
from rasengan_xl.adapters.consumers.evaluation import Evaluate
from rasengan_xl.adapters.consumers.kohya import kohya_changes
from rasengan_xl.adapters.consumers.peft import peft_changes
from rasengan_xl.adapters.consumers.targets import Target
from rasengan_xl.adapters.low_rank import product_norm, relative_distance
from rasengan_xl.errors import OutputError
from rasengan_xl.sdxl.layers import ModelLayers

FLOAT32_TOLERANCE = 1e-5
"""Largest deviation, relative to a layer's change, of a file in float32 that holds it exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """By how much a layer's change in a program differs from the trained one."""

    layer: str
    relative: float
    """Frobenius norm of the difference, relative to that of the trained change."""
    largest: float
    """Of all elements, absolute."""
    allowed: float
    """Most that `relative` may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecomposedSize:
    """What makes the rounding of a DoRA larger than that of its factors."""

    largest_gain: float
    weight_norm: float
    """Of the base's weight."""


def read_as(target: Target, file: Path, layers: ModelLayers) -> Mapping[str, Evaluate]:
    """Read a file by the rules of the program it was written for.

    Raises:
        OutputError: A tensor would be passed over.
    """
    match target.consumer:
        case "diffusers":
            return peft_changes(file, layers)
        case "kohya":
            return kohya_changes(file, layers, decomposed=bool(target.decompositions))
        case "comfyui":
            changed = any(
                of.axis == "output" and of.norm_of == "changed" for of in target.decompositions
            )
            return comfyui_changes(file, layers, output_norm_of_changed=changed)
        case "a1111":
            return a1111_changes(file, layers)


def deviation_between(layer: str, found: Weight, trained: Weight, allowed: float) -> Deviation:
    """Compare two changes of a layer's weight.

    Args:
        layer: Its name.
        found: What a program makes of a file.
        trained: What was trained.
        allowed: Largest relative deviation.
    """
    return Deviation(
        layer=layer,
        relative=relative_distance(found, trained),
        largest=(found - trained).abs().max().item(),
        allowed=allowed,
    )


def refuse_deviation(program: str, deviations: Sequence[Deviation], file: Path) -> None:
    """Refuse a file that a program would make something else of.

    Raises:
        OutputError: A layer deviates by more than it may; or is not a number.
    """
    beyond = [each for each in deviations if not each.relative <= each.allowed]
    if beyond:
        worst = max(beyond, key=lambda each: each.relative - each.allowed)
        raise OutputError(
            f"{file}: not written, since {program} would make something else of it: "
            f"{len(beyond)} of {len(deviations)} layers, most {worst.layer}, by "
            f"{worst.relative:.2g} of its trained change where {worst.allowed:.2g} is rounding; "
            "export with --dtype fp32"
        )


def rounding_allowance(
    factors: LowRank, dtype: torch.dtype, norm: float, decomposed: DecomposedSize | None = None
) -> float:
    """Bound what rounding the tensors of a file can do, relative to a layer's change.

    Each element of a factor is off by a share u of itself, so B A by at most 2 u |B| |A|; a
    magnitude in float32 moves its row of the whole weight.

    Args:
        factors: Before they are rounded.
        dtype: Their precision in the file.
        norm: Of the layer's change.
        decomposed: What else matters of a DoRA.
    """
    if not norm:
        return 0.0
    unit = torch.finfo(dtype).eps / 2
    spread = abs(factors.scale) * product_norm(_absolute(factors.up), _absolute(factors.down))
    by_factors = 2.1 * unit * spread / norm
    if decomposed is None:
        return FLOAT32_TOLERANCE + by_factors
    by_magnitudes = torch.finfo(torch.float32).eps * decomposed.weight_norm / norm
    # Twice: the direction's change moves the norm that it is divided by, too.
    return FLOAT32_TOLERANCE + by_magnitudes + 2 * decomposed.largest_gain * by_factors


def _absolute(factor: Tensor) -> Tensor:
    return factor.float().flatten(1).abs()
