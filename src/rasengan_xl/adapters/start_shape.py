"""The shape of an adapter that training goes on from another one with."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from rasengan_xl.adapters.attach import matches
from rasengan_xl.adapters.changes import Change, Decomposed, LowRank
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.adapters.low_rank import without_core
from rasengan_xl.config.settings import AdapterSettings, LayerShape

UNET = "unet."
Changes = Mapping[str, Change]
Shape = tuple[int, float]
"""Rank and alpha."""


def unet_changes(contents: AdapterContents) -> dict[str, Change]:
    """Return the changes to the UNet, by the layer's name in it."""
    changes = contents.changes.items()
    return {name.removeprefix(UNET): each for name, each in changes if name.startswith(UNET)}


def trainable_shape(
    contents: AdapterContents, settings: AdapterSettings, unet: nn.Module
) -> AdapterSettings:
    """Give settings the shape with which an adapter is trained on.

    A layer that is changed as LoRA or DoRA keeps its rank and alpha; any other gets those that the
    settings have, since it is turned into LoRA.

    Args:
        contents: The adapter.
        settings: As the recipe has them.
        unet: May be on the meta device, without weights.
    """
    changes = unet_changes(contents)
    decompose = _is_dora(changes, unet)
    kept = {name: factors_of(change, decompose=decompose) for name, change in changes.items()}
    factors = [each for each in kept.values() if each is not None]
    stabilized = all(f.rank_stabilized for f in factors) if factors else settings.rank_stabilized
    shapes = {
        name: (settings.rank, float(settings.alpha))
        if own is None
        else _shape_of(own, stabilized=stabilized)
        for name, own in kept.items()
    }
    return _describe(shapes, settings, unet).model_copy(
        update={
            "rank_stabilized": stabilized,
            "decompose": decompose if factors else settings.decompose,
        }
    )


def given_shape(
    contents: AdapterContents, settings: AdapterSettings, unet: nn.Module
) -> AdapterSettings:
    """Give settings the shape of an adapter that is not trained on, whatever its kind.

    Args:
        contents: The adapter.
        settings: As the recipe has them.
        unet: May be on the meta device, without weights.
    """
    shapes: dict[str, Shape] = {}
    for name, change in unet_changes(contents).items():
        weight = cast("Tensor", unet.get_submodule(name).weight)
        rank = change.rank or min(weight.flatten(1).shape)
        shapes[name] = (rank, change.scale * rank)
    if not shapes:  # it changes text encoders alone, whose shapes settings do not tell
        return settings
    return _describe(shapes, settings, unet).model_copy(
        update={"rank_stabilized": False, "decompose": contents.is_decomposed}
    )


def factors_of(change: Change, *, decompose: bool) -> LowRank | None:
    """Return the factors that training goes on with as they are; None: the change has none.

    Args:
        change: Of one layer.
        decompose: Whether magnitudes are trained, too.
    """
    if decompose and isinstance(change, Decomposed) and change.axis == "output":
        change = change.direction
    return without_core(change) if isinstance(change, LowRank) else None


def name_targets(
    unet: nn.Module, layers: Iterable[str], known: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Name some layers by the shortest endings that nothing else in the UNet has.

    Args:
        unet: Which has them.
        layers: Their full names.
        known: Targets that are kept if they name just these layers.
    """
    wanted = dict.fromkeys(layers)
    modules = list(cast("dict[str, nn.Module]", dict(cast("Any", unet).named_modules())))
    if {m for m in modules if any(matches(m, target) for target in known)} == wanted.keys():
        return known
    targets: list[str] = []
    for layer in wanted:
        if any(matches(layer, target) for target in targets):
            continue
        parts = layer.split(".")
        starts = (i for i in range(len(parts) - 1, -1, -1) if not parts[i].isdigit())
        endings = (".".join(parts[start:]) for start in starts)
        targets.append(
            next(
                ending
                for ending in endings
                if all(name in wanted for name in modules if matches(name, ending))
            )
        )
    return tuple(targets)


def _is_dora(changes: Changes, unet: nn.Module) -> bool:
    """Tell whether all layers are changed as PEFT's DoRA can; it decomposes all or none."""
    return all(
        isinstance(change, Decomposed)
        and isinstance(unet.get_submodule(name), nn.Linear)
        and factors_of(change, decompose=True) is not None
        for name, change in changes.items()
    )


def _shape_of(factors: LowRank, *, stabilized: bool) -> Shape:
    """Return rank and alpha, the latter for a scale that is stabilized or is not."""
    if factors.rank_stabilized == stabilized:
        return factors.rank, factors.alpha
    return factors.rank, factors.scale * factors.rank


def _describe(
    shapes: Mapping[str, Shape], settings: AdapterSettings, unet: nn.Module
) -> AdapterSettings:
    """Write shapes as what most layers have, and the exceptions."""
    (most, _), *_ = Counter(shapes.values()).most_common(1)
    others = tuple(
        LayerShape(layer=name, rank=shape[0], alpha=shape[1])
        for name, shape in shapes.items()
        if shape != most
    )
    targets = name_targets(unet, shapes, settings.targets)
    return settings.model_copy(
        update={"rank": most[0], "alpha": most[1], "targets": targets, "layer_shapes": others}
    )
