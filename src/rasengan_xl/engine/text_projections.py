"""Keys and values of all cross-attention layers, computed at once from the caption.

They depend on the caption alone, and their input needs no gradient: one product for all layers
of a width takes the place of two small ones in each of SDXL's 70 transformer blocks.  The base's
part may be given, as it was computed once and kept: then only the adapters' is computed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rasengan_xl.engine.projecting import Projection

Text = Float[Tensor, "batch token width"]
KeyValues = Float[Tensor, "batch token key_value"]
Call = tuple[tuple[Any, ...], dict[str, Any]]

GIVEN = "key_values"
"""What a UNet is given the base's part by: one row of all layers' columns for each token."""


class TextProjections:
    """What all cross-attention layers need of the caption, while a forward pass lasts."""

    def __init__(
        self,
        projections: Sequence[Projection],
        places: Sequence[Sequence[int]],
        columns: Sequence[range],
    ) -> None:
        """Take charge of layers.

        Args:
            projections: One for each width and kind.
            places: Of the outputs of each, which number layer it is.
            columns: Where each layer's product lies in what may be given.
        """
        stretches = [_join([columns[place] for place in each]) for each in places]
        self._work = tuple(zip(projections, places, stretches, strict=True))
        self._found: dict[int, Tensor] = {}

    def watch(self, unet: nn.Module) -> None:
        """Compute before each forward pass of a UNet, and forget after it."""
        unet.register_forward_pre_hook(self._begin, with_kwargs=True)
        unet.register_forward_hook(self._end, always_call=True)

    def take(self, key: int, value: int) -> tuple[Text, Text]:
        """Return the keys and values of a layer."""
        return self._found[key], self._found[value]

    def _begin(self, unet: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Call:
        text = named["encoder_hidden_states"] if "encoder_hidden_states" in named else given[2]
        kept: KeyValues | None = named.get(GIVEN)
        for projection, places, stretches in self._work:
            base = None if kept is None else _cut(kept, stretches)
            outputs = projection(text, base=base, training=unet.training)
            self._found |= dict(zip(places, outputs, strict=True))
        return given, {name: value for name, value in named.items() if name != GIVEN}

    def _end(self, unet: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        del unet, given, output
        self._found = {}


def _join(columns: Sequence[range]) -> list[range]:
    """Join columns that follow on one another."""
    joined: list[range] = []
    for each in columns:
        if joined and joined[-1].stop == each.start:
            joined[-1] = range(joined[-1].start, each.stop)
        else:
            joined.append(each)
    return joined


def _cut(kept: KeyValues, stretches: Sequence[range]) -> Text:
    """Copy some columns: what is given stays as it is."""
    return torch.cat([kept[..., each.start : each.stop] for each in stretches], dim=-1)
