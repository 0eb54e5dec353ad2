"""What is in an adapter's file, whichever trainer wrote it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rasengan_xl.adapters.changes import Change, Decomposed, tensors_of
from rasengan_xl.sdxl.model_folder import TEXT_ENCODERS


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterContents:
    """An adapter as a change for each of some layers of a base model."""

    source: Path
    form: str
    """How its weights were named: `diffusers`, `kohya` ..."""
    changes: Mapping[str, Change]
    """By the layer's name, as in `sdxl.layers.ModelLayers`."""
    header: Mapping[str, str]
    """Texts beside the weights."""
    notes: tuple[str, ...] = ()
    """What a user should know about how the file was understood."""

    @property
    def parameter_count(self) -> int:
        """How many numbers the adapter consists of, alphas not counted."""
        return sum(t.numel() for change in self.changes.values() for t in tensors_of(change))

    @property
    def is_decomposed(self) -> bool:
        """Whether any layer is changed as in DoRA."""
        return any(isinstance(change, Decomposed) for change in self.changes.values())

    @property
    def changes_text(self) -> bool:
        """Whether a text encoder is changed, too."""
        parts = tuple(f"{part}." for part in TEXT_ENCODERS)
        return any(layer.startswith(parts) for layer in self.changes)
