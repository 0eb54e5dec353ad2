"""How an encoded image file becomes the picture a person sees: upright, 8-bit RGB, on white."""

import struct
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rasengan_xl.errors import DatasetError

# Pillow would also try formats that run other programs (EPS) or are never photographs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
# What Pillow raises on damaged files; each plugin has its own habits.
_FAULTS = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def decode_picture(content: bytes, name: str, background: str = "white") -> Image.Image:
    """Decode an image file to upright RGB; of an animation, its first frame.

    Args:
        content: The encoded file.
        name: What to call the picture in an error.

    Raises:
        DatasetError: The file is damaged, of an unknown format, or has no 8- or 16-bit pixels.
    """
    try:
        with Image.open(BytesIO(content), formats=_FORMATS) as file:
            return _flatten(ImageOps.exif_transpose(file), background)
    except _FAULTS as fault:
        raise DatasetError(describe_unreadable(name, fault)) from fault


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """What is known of a picture once it was decoded."""

    width: int
    height: int
    animated: bool
    look: bytes


def inspect_picture(content: bytes, name: str) -> PictureFacts:
    """Decode a picture whole to learn its facts; raises like `decode_picture`."""
    picture = decode_picture(content, name)
    with Image.open(BytesIO(content), formats=_FORMATS) as file:
        animated = getattr(file, "n_frames", 1) > 1
    small = np.asarray(picture.convert("L").resize((16, 16)))
    look = np.packbits(small > small.mean()).tobytes()
    return PictureFacts(width=picture.width, height=picture.height, animated=animated, look=look)


def describe_unreadable(name: str, fault: Exception) -> str:
    """Word the error for a picture that cannot be used."""
    # Pillow's own words for this case name a memory address.
    unknown = isinstance(fault, UnidentifiedImageError)
    reason = "not a known image format" if unknown else str(fault) or type(fault).__name__
    return f"{name}: not a readable picture ({reason}): remove or repair it"


def _flatten(image: Image.Image, background: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips: all but the darkest 1/256 of the range would be white.
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in {"I", "F"}:
        raise ValueError("32-bit pixels have no fixed range; save it with 8 bits per channel")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, background)
        return Image.alpha_composite(paper, colours).convert("RGB")
    return image.convert("RGB")
