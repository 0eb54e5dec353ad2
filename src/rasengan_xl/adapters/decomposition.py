"""How a program computes DoRA, and how a file says which program its magnitudes are for."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal, cast, get_args

from rasengan_xl.config.base_precisions import Precision, Store

DECOMPOSITIONS_KEY = "rasengan.decompositions"
"""The header's entry.  A file without it means what the trainers mean by the names it uses."""
_AXES, _NORMS = ("output", "input"), ("changed", "base")
_STORES: tuple[Store, ...] = get_args(Store)
_PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposition:
    """How a program computes DoRA, by the words of `changes.Decomposed`."""

    axis: Literal["output", "input"] = "output"
    norm_of: Literal["changed", "base"] = "changed"
    epsilon: float = 0.0
    stored: Store = "compute"
    precision: Precision = "float32"


PEFT_DORA = Decomposition()
"""Of github.com/huggingface/peft: each output's own norm, of W + sBA."""


def write_decompositions(decompositions: Iterable[Decomposition]) -> str:
    """Write the header's entry."""
    return json.dumps([asdict(each) for each in decompositions])


def parse_decompositions(text: str) -> tuple[Decomposition, ...]:
    """Read the header's entry.

    Raises:
        ValueError: It is not one.
    """
    try:
        listed: list[dict[str, Any]] = json.loads(text)
        return tuple(_parse(entry) for entry in listed)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"not what was written ({error!r})") from error


def _parse(entry: dict[str, Any]) -> Decomposition:
    axis, norm_of, epsilon = entry["axis"], entry["norm_of"], float(entry["epsilon"])
    stored, precision = entry["stored"], entry["precision"]
    is_known = axis in _AXES and norm_of in _NORMS
    is_known = is_known and stored in _STORES and precision in _PRECISIONS
    if not (is_known and isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"unknown: {entry}")
    return Decomposition(
        axis=cast("Literal['output', 'input']", axis),
        norm_of=cast("Literal['changed', 'base']", norm_of),
        epsilon=epsilon,
        stored=cast("Store", stored),
        precision=cast("Precision", precision),
    )
