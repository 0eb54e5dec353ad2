"""How a picture becomes the numbers an encoder takes, as its preprocessor_config.json says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from rasengan_xl.errors import ModelError
from rasengan_xl.evaluation.encoder_folder import EncoderFolder

PREPROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Resize, cut out the middle, scale, normalise; by Pillow, and so without torchvision."""

    shortest_edge: int | None
    """Resize the shorter side to it; absent where `resized` is given, or nothing is resized."""
    resized: tuple[int, int] | None
    """Resize to this height and width, whatever the shape."""
    crop: tuple[int, int] | None
    """Height and width of the middle that is kept."""
    resample: Image.Resampling
    scale: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def to_pixels(self, picture: Image.Image) -> Float[Tensor, "3 height width"]:
        """Return a picture as the encoder takes it."""
        picture = picture.convert("RGB")
        size = self._new_size(picture)
        if size is not None:
            picture = picture.resize(size, self.resample)
        if self.crop is not None:
            picture = _cut_middle(picture, *self.crop)
        values = torch.from_numpy(np.array(picture)).permute(2, 0, 1) * self.scale
        mean, deviation = torch.tensor(self.mean), torch.tensor(self.deviation)
        return (values - mean[:, None, None]) / deviation[:, None, None]

    def _new_size(self, picture: Image.Image) -> tuple[int, int] | None:
        if self.resized is not None:
            height, width = self.resized
            return width, height
        if self.shortest_edge is None:
            return None
        # Rounded down, as transformers does.
        shorter = min(picture.size)
        edge = self.shortest_edge
        return edge * picture.width // shorter, edge * picture.height // shorter

    def size_of_square(self) -> tuple[int, int]:
        """Return the height and width that a square picture comes to."""
        assert self.crop or self.resized or self.shortest_edge
        edge = self.shortest_edge or 0
        return self.crop or self.resized or (edge, edge)


def read_preprocessing(folder: EncoderFolder) -> Preprocessing:
    """Read how an encoder's pictures are prepared, in the old and the new form of the file.

    Raises:
        ModelError: The file is missing, or asks for something that is not known here.
    """
    found = folder.read_json(PREPROCESSOR_FILE)
    try:
        return _parse(found)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder.path}: {PREPROCESSOR_FILE} is not understood ({error!r}); give CLIP or DINOv2"
        ) from error


def _parse(found: Mapping[str, Any]) -> Preprocessing:
    edge, resized = _read_size(found["size"]) if _asks_for(found, "do_resize") else (None, None)
    crop = found.get("crop_size") if _asks_for(found, "do_center_crop") else None
    if edge is None and resized is None and crop is None:
        raise ValueError("pictures of any size")
    normalised = _asks_for(found, "do_normalize")
    scale = float(found.get("rescale_factor", 1 / 255))
    return Preprocessing(
        shortest_edge=edge,
        resized=resized,
        crop=None if crop is None else _height_width(crop),
        resample=Image.Resampling(found["resample"]),
        scale=scale if _asks_for(found, "do_rescale") else 1.0,
        mean=_three(found["image_mean"]) if normalised else (0.0, 0.0, 0.0),
        deviation=_three(found["image_std"]) if normalised else (1.0, 1.0, 1.0),
    )


def _asks_for(found: Mapping[str, Any], key: str) -> bool:
    # The classes of both encoders do everything that the file does not switch off.
    return key not in found or bool(found[key])


def _read_size(size: int | Mapping[str, int]) -> tuple[int | None, tuple[int, int] | None]:
    if isinstance(size, int):  # the old form
        return size, None
    if set(size) == {"shortest_edge"}:
        return size["shortest_edge"], None
    return None, _height_width(size)


def _height_width(size: int | Mapping[str, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size["height"], size["width"])


def _three(values: Any) -> tuple[float, ...]:
    red, green, blue = cast("list[float]", values)
    return red, green, blue


def _cut_middle(picture: Image.Image, height: int, width: int) -> Image.Image:
    # Beyond its edges, a picture is black here and in transformers.
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))
