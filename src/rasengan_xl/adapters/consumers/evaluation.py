"""What the consumers' formulas have in common: layers from names, and nothing left over."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rasengan_xl.adapters.changes import Weight
from rasengan_xl.errors import OutputError
from rasengan_xl.tensor_file import TensorFile, tensor_names

Evaluate = Callable[[Weight], Weight]
"""From a layer's base weight in float32 to what a program adds to it at strength 1."""


_linalg: Any = torch.linalg  # its functions carry no full types


class StoredLayer:
    """What a file holds for one layer."""

    def __init__(self, content: TensorFile, names: Mapping[str, str]) -> None:
        self._content, self._names = content, names

    def __contains__(self, ending: object) -> bool:
        """Tell whether there is a tensor whose name ends so."""
        return ending in self._names

    def read(self, ending: str, weight: Weight) -> Tensor:
        """Return the tensor whose name ends so, in the precision of the layer's weight."""
        return self._content.read(self._names[ending]).to(weight.dtype)


def row_norms(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, " rows"]:
    """Return the norm of each row."""
    return _linalg.vector_norm(matrix, dim=1)


def group_by_layer(
    file: Path, named: Mapping[str, str], endings: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Find what a file holds for each layer: by ending, the tensor's name.

    Args:
        file: The file.
        named: Our names of layers, by a consumer's.
        endings: What a consumer looks for behind a layer's name.

    Raises:
        OutputError: A tensor would be passed over.
    """
    grouped: dict[str, dict[str, str]] = {}
    for name in tensor_names(file):
        ending = next((end for end in endings if name.endswith(f".{end}")), None)
        layer = named.get(name.removesuffix(f".{ending}")) if ending else None
        if ending is None or layer is None:
            raise passed_over(name)
        grouped.setdefault(layer, {})[ending] = name
    return grouped


def passed_over(name: str) -> OutputError:
    """Make the error about a tensor that a program has no use for."""
    return OutputError(
        f"{name}: the program that it is for would pass it over; export --to diffusers or merged"
    )
