"""An adapter that sits on a UNet, whoever computes it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import Parameter

from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.sdxl.compute import Compute


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """A layer that an adapter sits on."""

    base: nn.Linear | nn.Conv2d
    """As it was before."""
    scale: float
    """What the product of its factors is multiplied by."""


@dataclass(frozen=True, kw_only=True)
class Adapter(ABC):
    """An adapter that sits on a UNet."""

    unet: UNet2DConditionModel
    settings: AdapterSettings
    options: EngineOptions
    parameters: Mapping[str, Tensor]
    """Its weights by PEFT's names, in float32, wherever they lie."""
    trained: Mapping[str, Parameter]
    """What an optimizer is given."""
    layers: Mapping[str, Adapted]
    """What it sits on, by full names in the UNet."""

    @abstractmethod
    def disabled(self) -> AbstractContextManager[None]:
        """Make the UNet compute as if the adapter were not there."""

    @abstractmethod
    def computing(self, compute: Compute) -> AbstractContextManager[object]:
        """Make the UNet compute in a run's precision while it trains."""

    @abstractmethod
    def collect(self) -> None:
        """Bring gradients to where an optimizer finds them, after a backward pass."""

    @abstractmethod
    def abandon(self) -> None:
        """Forget what a backward pass that broke off has left for `collect`."""

    @abstractmethod
    def clear_gradients(self) -> None:
        """Begin a new step."""

    @abstractmethod
    def gradients(self) -> Mapping[str, Tensor]:
        """Return the gradients of `parameters`, by the same names."""

    @abstractmethod
    def by_layer(self, values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return values that go by the names of `trained` by those of `parameters`; views.

        What goes by other names is returned as it is.
        """

    @abstractmethod
    def scales(self) -> Mapping[str, float]:
        """Return what the product of each layer's factors is multiplied by when it computes."""

    @abstractmethod
    def settle(self) -> None:
        """Compute with the weights as they are now, after they were changed."""

    @property
    def parameter_count(self) -> int:
        """How many weights it has."""
        return sum(weights.numel() for weights in self.parameters.values())
