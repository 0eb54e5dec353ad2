"""The weights of a base model with a change merged into them, one tensor at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from rasengan_xl.errors import AdapterError, ModelError, OutputError
from rasengan_xl.sdxl.components import load_unet_shape
from rasengan_xl.sdxl.model_folder import ModelFolder
from rasengan_xl.sdxl.stored_weights import StoredWeights

Change = Callable[[str, Tensor], Tensor]
"""Gets a tensor's name (`unet.<layer>.weight`) and value as the base stores it, in any precision;
returns the merged one in float32, or the very same object where nothing changes."""

MERGE = "merge weights"
"""The stage of the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedModel:
    """A merged model that has been written."""

    path: Path
    tensors: int
    """How many it holds."""
    changed: tuple[str, ...]
    """Names of the base's tensors that are not the base's any more."""


class MergedWeights:
    """A base model's tensors, merged and in the precision to write, each made when it is read."""

    def __init__(self, model: ModelFolder, change: Change, dtype: torch.dtype) -> None:
        """Look at a base model.

        Args:
            model: The base.
            change: What to merge; asked for every tensor of the UNet and the text encoders.
            dtype: Precision of those. The VAE keeps its own, in which it is known to work.

        Raises:
            ModelError: The base cannot be read, or its UNet is not whole.
        """
        self.stored = StoredWeights(model)
        self.unet = load_unet_shape(model)
        self._refuse_incomplete_unet()
        self.changed: list[str] = []
        self._change = change
        self._dtype = dtype

    def dtype(self, name: str) -> torch.dtype:
        """Tell in which precision a tensor is read."""
        stored = self.stored.describe(name).dtype
        return self._dtype if _is_mergeable(name, stored) else stored

    def read(self, name: str) -> Shaped[Tensor, "..."]:
        """Make a tensor.

        Raises:
            AdapterError: The change does not fit, or is not finite.
            ModelError: The base's is not finite.
            OutputError: It is beyond what the precision holds.
        """
        base = self.stored.read(name)
        if not _is_mergeable(name, base.dtype):
            return base
        merged = self._change(name, base)
        if merged is not base:
            self.changed.append(name)
        if merged.shape != base.shape:
            raise AdapterError(
                f"{name}: the adapter's change is {list(merged.shape)}, the base's weight "
                f"{list(base.shape)}; use the base it was trained on"
            )
        written = merged.to(self._dtype)
        if not written.isfinite().all():
            raise self._explain(name, base, merged)
        return written

    def _refuse_incomplete_unet(self) -> None:
        """Diffusers would fill what is missing with random values, and only warn."""
        for inside, parameter in self.unet.named_parameters():
            shape = self.stored.describe(f"unet.{inside}").shape
            if shape != tuple(parameter.shape):
                raise ModelError(
                    f"{self.stored.model.path}: unet.{inside} is {list(shape)}, its config.json "
                    f"says {list(parameter.shape)}; fetch the model again"
                )

    def _explain(self, name: str, base: Tensor, merged: Tensor) -> Exception:
        if not base.isfinite().all():
            path = self.stored.model.path
            return ModelError(f"{path}: {name} holds a value that is not finite; fetch it again")
        if not merged.isfinite().all():
            return AdapterError(
                f"{name}: is not finite once the adapter is merged; use an earlier checkpoint"
            )
        precision = str(self._dtype).removeprefix("torch.")
        return OutputError(
            f"{name}: reaches {merged.abs().max().item():.3g} once merged, and {precision} holds "
            f"{torch.finfo(self._dtype).max:.3g}; export with --dtype bf16 or fp32"
        )


def refuse_existing(path: Path) -> None:
    """Refuse to write over what is there.

    Raises:
        OutputError: Something is.
    """
    if path.exists() or path.is_symlink():
        raise OutputError(f"{path}: is there already; name another, or remove it")


def _is_mergeable(name: str, dtype: torch.dtype) -> bool:
    return dtype.is_floating_point and not name.startswith("vae.")
