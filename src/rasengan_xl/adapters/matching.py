"""Whether the arms of a matched comparison train equally many weights."""

from collections.abc import Mapping

from torch import nn

from rasengan_xl.adapters.inventory import predict_trainable_parameters
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.errors import RecipeError

TOLERANCE = 0.03
"""How far an arm may be off, as a share of the first arm's weights.  Ranks are whole numbers, so
that no arm of another shape can be equal to the last weight."""


def refuse_unmatched(
    unet: nn.Module, arms: Mapping[str, AdapterSettings], tolerance: float = TOLERANCE
) -> None:
    """Refuse arms that train more or fewer weights than the first one.

    Args:
        unet: The base model; may be on the meta device.
        arms: By name; the first is what the others are matched with.
        tolerance: Largest share by which an arm may be off.

    Raises:
        RecipeError: Some are off; names all counts, and for each such arm the rank to choose.
        AdapterError: A target matches no layer, or one that cannot be adapted.
    """
    counts = {name: predict_trainable_parameters(unet, arm) for name, arm in arms.items()}
    first_name, wanted = next(iter(counts.items()))
    remedies = [
        f"{name}: {_find_remedy(unet, arms[name], wanted, tolerance)}"
        for name, count in counts.items()
        if not _matches(count, wanted, tolerance)
    ]
    if remedies:
        listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        raise RecipeError(
            f'arms: design = "matched" has every arm train as many weights as {first_name}, within '
            f"{tolerance:.0%}; they train {listed}: change {'; '.join(remedies)}"
        )


def nearest_rank(unet: nn.Module, settings: AdapterSettings, wanted: int) -> int:
    """Find the rank at which an adapter comes nearest to a number of trained weights."""
    at_one = _count_at(unet, settings, 1)
    per_rank = _count_at(unet, settings, 2) - at_one
    if not per_rank:  # every layer has a rank of its own
        return settings.rank
    below = max(1, 1 + (wanted - at_one) // per_rank)
    return min(below, below + 1, key=lambda rank: abs(_count_at(unet, settings, rank) - wanted))


def _find_remedy(unet: nn.Module, settings: AdapterSettings, wanted: int, tolerance: float) -> str:
    if settings.start_from is not None:
        return f"no rank, which {settings.start_from} decides, but that of the first"
    rank = nearest_rank(unet, settings, wanted)
    count = _count_at(unet, settings, rank)
    if _matches(count, wanted, tolerance):
        return f"adapter.rank = {rank} gives {count:,}"
    return (
        f"no rank fits ({rank} comes nearest with {count:,}), so choose another rank for the first"
    )


def _count_at(unet: nn.Module, settings: AdapterSettings, rank: int) -> int:
    return predict_trainable_parameters(unet, settings.model_copy(update={"rank": rank}))


def _matches(count: int, wanted: int, tolerance: float) -> bool:
    return abs(count - wanted) <= tolerance * wanted
