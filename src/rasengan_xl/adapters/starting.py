"""Begin a training with the weights of another adapter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.adapters.changes import (
    Change,
    Decomposed,
    LowRank,
    Weight,
    on_layer,
    weight_change,
)
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.decomposition import PEFT_DORA
from rasengan_xl.adapters.low_rank import Limits, frobenius_norm, nearest_low_rank
from rasengan_xl.adapters.start_shape import factors_of, unet_changes
from rasengan_xl.adapters.verification.outcomes import plural
from rasengan_xl.adapters.writing.plain import decompose, meant_as
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.weights import read_weight
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.draws import keyed_generator


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """What became of a layer's change."""

    lost: float = 0.0
    """Frobenius norm of what its factors leave out; so is `whole` of what they are of."""
    whole: float = 0.0
    is_turned: bool = False
    is_rescaled: bool = False


@torch.no_grad()
def begin_from(
    adapter: Adapter, contents: AdapterContents, settings: AdapterSettings, seed: int
) -> tuple[str, ...]:
    """Give a fresh adapter on a UNet the weights of another one.

    Args:
        adapter: Of the shape that `trainable_shape` found.
        contents: The other one.
        settings: Of that shape.
        seed: Determines what a rank is filled up with, where a change has less.

    Returns:
        What the user must be told, one line each.

    Raises:
        AdapterError: The shape is another one, as where a recipe has another run's start_digest.
    """
    _refuse_other_layers(adapter, contents)
    begun = {
        name: _begin_layer(adapter, name, change, settings, keyed_generator(seed, "fill up", name))
        for name, change in unet_changes(contents).items()
    }
    adapter.settle()
    return (*_tell_start(contents, begun), *_tell_turned(begun), *_tell_rescaled(begun))


def _refuse_other_layers(adapter: Adapter, contents: AdapterContents) -> None:
    for name in unet_changes(contents):
        if f"{name}.lora_A.default.weight" not in adapter.parameters:
            raise AdapterError(
                f"adapter.targets: leave out {name}, which {contents.source} changes; remove "
                "adapter.start_digest from the recipe, and the file decides"
            )


def _begin_layer(
    adapter: Adapter, name: str, change: Change, settings: AdapterSettings, chance: Generator
) -> _Begun:
    base = adapter.layers[name].base
    weight, change = read_weight(base).float(), on_layer(change, base)
    rank = settings.rank_of(name)
    factors, begun = factors_of(change, decompose=settings.decompose), _Begun()
    if factors is None or factors.rank != rank:
        whole = weight_change(change, weight)
        factors = _filled_up(nearest_low_rank(whole, Limits(rank=rank)), rank, chance)
        lost = whole - factors.difference(whole.shape, whole.device)
        norms = [frobenius_norm(each) for each in (lost, whole)]
        begun = _Begun(lost=norms[0], whole=norms[1], is_turned=True)
    # Exactly 1 where the layer keeps its alpha.
    share = factors.scale / settings.scale_of(name)
    _set(adapter, f"{name}.lora_A.default.weight", factors.down.float())
    _set(adapter, f"{name}.lora_B.default.weight", factors.up.float() * share)
    if not settings.decompose:
        return begun
    magnitude = _magnitude_of(None if begun.is_turned else change, factors, weight)
    _set(adapter, f"{name}.lora_magnitude_vector.default.weight", magnitude)
    is_own = not isinstance(change, Decomposed) or begun.is_turned or _is_as_trained(change)
    return begun if is_own else _Begun(is_rescaled=True)


def _filled_up(factors: LowRank, rank: int, chance: Generator) -> LowRank:
    """Fill factors up to a rank, where a change has less, with zeros that training can fill.

    Only the upper ones are zero: were both, neither would ever have a gradient.
    """
    lacking = rank - factors.rank
    if not lacking:
        return factors
    down, up = factors.down, factors.up
    fresh = torch.empty(lacking, *down.shape[1:])  # drawn on the CPU, alike for every device
    nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=chance)  # as PEFT does
    return LowRank(
        down=torch.cat([down, fresh.to(down)]),
        up=torch.cat([up, up.new_zeros(up.shape[0], lacking, *up.shape[2:])], dim=1),
        alpha=factors.scale * rank,
    )


def _magnitude_of(change: Change | None, factors: LowRank, weight: Weight) -> Tensor:
    """Return the magnitudes by which PEFT's DoRA computes with just the changed weight."""
    if isinstance(change, Decomposed):
        return meant_as(change, weight, PEFT_DORA).magnitude
    return decompose(factors, weight).magnitude


def _is_as_trained(change: Decomposed) -> bool:
    is_ours = change.norm_of == "changed" and change.stored == "compute"
    return is_ours and change.epsilon == 0


def _set(adapter: Adapter, name: str, value: Tensor) -> None:
    parameter = adapter.parameters[name]
    parameter.copy_(value.reshape(parameter.shape))


def _tell_start(contents: AdapterContents, begun: Mapping[str, _Begun]) -> Sequence[str]:
    layers = plural(len(begun), "layer")
    return (f"starts from {contents.source} ({contents.form}): {layers}", *contents.notes)


def _tell_turned(begun: Mapping[str, _Begun]) -> Sequence[str]:
    turned = {name: each for name, each in begun.items() if each.is_turned}
    if not turned:
        return ()
    lost = math.hypot(*(each.lost for each in turned.values()))
    whole = math.hypot(*(each.whole for each in turned.values()))
    shares = {name: each.lost / (each.whole or 1.0) for name, each in turned.items()}
    worst = max(shares, key=shares.__getitem__)
    return (
        f"{len(turned)} of {len(begun)} layers are of a kind that is not trained, and turned into "
        f"LoRA by SVD: {lost / (whole or 1.0):.2%} of their change is lost (Frobenius norm), most "
        f"in {worst}, {shares[worst]:.2%}; a higher adapter.rank loses less",
    )


def _tell_rescaled(begun: Mapping[str, _Begun]) -> Sequence[str]:
    rescaled = sum(each.is_rescaled for each in begun.values())
    if not rescaled:
        return ()
    return (
        f"{rescaled} of {len(begun)} layers divide their magnitudes by another norm than is "
        "trained with: they are rescaled, so that every weight is what it was",
    )
