"""Keys and values of all cross-attention layers, computed at once from the caption.

They depend on the caption alone, and their input needs no gradient: one product for all layers
of a width takes the place of two small ones in each of SDXL's 70 transformer blocks.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from rasengan_xl.engine.projecting import Projection

Text = Float[Tensor, "batch token width"]


class TextProjections:
    """What all cross-attention layers need of the caption, while a forward pass lasts."""

    def __init__(self, projections: Sequence[Projection], places: Sequence[Sequence[int]]) -> None:
        """Take charge of layers.

        Args:
            projections: One for each width and kind.
            places: Of the outputs of each, which number layer it is.
        """
        self._work = tuple(zip(projections, places, strict=True))
        self._found: dict[int, Tensor] = {}

    def watch(self, unet: nn.Module) -> None:
        """Compute before each forward pass of a UNet, and forget after it."""
        unet.register_forward_pre_hook(self._begin, with_kwargs=True)
        unet.register_forward_hook(self._end, always_call=True)

    def take(self, key: int, value: int) -> tuple[Text, Text]:
        """Return the keys and values of a layer."""
        return self._found[key], self._found[value]

    def _begin(self, unet: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        text = named["encoder_hidden_states"] if "encoder_hidden_states" in named else given[2]
        for projection, places in self._work:
            outputs = projection(text, training=unet.training)
            self._found |= dict(zip(places, outputs, strict=True))

    def _end(self, unet: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        del unet, given, output
        self._found = {}
