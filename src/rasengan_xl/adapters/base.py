"""The base model under an adapter, as far as it is at hand."""

from dataclasses import dataclass

import torch

from rasengan_xl.adapters.changes import Weight
from rasengan_xl.sdxl.layers import ModelLayers
from rasengan_xl.sdxl.stored_weights import StoredWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The base model that an adapter is for, as far as it is at hand."""

    layers: ModelLayers
    stored: StoredWeights | None
    """None: only its shape is known, which is enough for plain LoRA."""

    def weight(self, layer: str) -> Weight:
        """Return a layer's weight, or a zero in its place if only its shape is known."""
        if self.stored is None:
            return torch.zeros(()).expand(self.layers.shapes[layer])
        return self.stored.read(f"{layer}.weight").float()
