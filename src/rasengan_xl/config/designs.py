"""Whether the arms of a comparison differ by design: in one factor each."""

import math
from collections.abc import Mapping
from typing import Any

from rasengan_xl.config.recipe import as_table
from rasengan_xl.config.settings import AdapterSettings, RunSettings
from rasengan_xl.errors import RecipeError

_ALPHA, _RANK = "adapter.alpha", "adapter.rank"
_SCALE_KEYS = frozenset({_ALPHA, _RANK})
"""Neither says alone how strong the adapter is: the factors behind them are rank and scale."""
_NAMES = {
    "adapter.base_precision": "precision",
    "adapter.decompose": "decomposition",
    "adapter.targets": "targets",
    "adapter.rank_stabilized": "rank stabilization",
    "adapter.dropout": "dropout",
    "adapter.layer_shapes": "ranks of single layers",
    "adapter.start_from": "start",
    "adapter.start_digest": "start",
    "adapter.start_text": "start",
}
"""What the field calls a key; any other key goes by its own name."""


def refuse_other_than_one_factor(arms: Mapping[str, RunSettings]) -> None:
    """Refuse arms that differ from the first one in no factor, or in several.

    Args:
        arms: Resolved, by name; the first is what the others are compared with.

    Raises:
        RecipeError: The effect of a factor could not be told from that of another.
    """
    first_name, first = next(iter(arms.items()))
    for name, arm in list(arms.items())[1:]:
        factors = list_factors(first, arm)
        if not factors:
            raise RecipeError(
                f'arms.{name}: is the same as arms.{first_name}; design = "one-factor" has every '
                "arm differ from the first in one factor: change one, or remove the arm"
            )
        if len(factors) > 1:
            raise RecipeError(
                f"arms.{name}: differs from arms.{first_name} in {len(factors)} factors "
                f'({", ".join(factors)}), where design = "one-factor" allows one: '
                "make an arm for each of them, or remove the key design"
            )


def name_factor(first: RunSettings, arm: RunSettings) -> str:
    """Say in a few words what an arm differs from the first one in; all factors, if several."""
    return ", ".join(list_factors(first, arm)) or "nothing"


def list_factors(first: RunSettings, arm: RunSettings) -> list[str]:
    """List the factors that an arm differs from the first one in.

    A rank that moves with its alpha is one factor, since the scale of the update stays.
    """
    changed = _changed_keys(first.model_dump(mode="json"), arm.model_dump(mode="json"))
    names = (_NAMES.get(key, key) for key in changed if key not in _SCALE_KEYS)
    factors = list(dict.fromkeys(names))
    if _RANK in changed:
        factors.append("rank")
    # One formula for both: where rank stabilization differs, that is a factor of its own.
    stabilized = first.adapter.rank_stabilized
    if _SCALE_KEYS & set(changed) and not math.isclose(
        _scale(first.adapter, stabilized=stabilized), _scale(arm.adapter, stabilized=stabilized)
    ):
        factors.append("scale alpha/sqrt(rank)" if stabilized else "scale alpha/rank")
    return factors


def _scale(adapter: AdapterSettings, *, stabilized: bool) -> float:
    return adapter.alpha / (math.sqrt(adapter.rank) if stabilized else adapter.rank)


def _changed_keys(first: Mapping[str, Any], other: Mapping[str, Any], table: str = "") -> list[str]:
    """List the dotted keys whose values differ."""
    changed: list[str] = []
    for key, value in first.items():
        below, beside = as_table(value), as_table(other[key])
        if below is not None and beside is not None:
            changed += _changed_keys(below, beside, f"{table}{key}.")
        elif value != other[key]:
            changed.append(f"{table}{key}")
    return changed
