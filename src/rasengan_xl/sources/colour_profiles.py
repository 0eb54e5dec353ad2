"""Colours as the file's own profile means them, brought to sRGB, which SDXL was trained in."""

from io import BytesIO
from typing import Any, cast

from PIL import Image, ImageCms

_library: Any = ImageCms  # its profiles carry no full types

_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
"""How Pillow calls pixels of a profile's colour space."""


def convert_to_srgb(colours: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert a picture without transparency to RGB in sRGB.

    Args:
        colours: Of mode L, RGB or CMYK.
        profile: An ICC profile as embedded in the file. One for RGB also serves a grey picture:
            many programs leave it there when they drop the colours.

    Returns:
        None if the profile is damaged or made for other pixels than these.
    """
    try:
        source = _library.ImageCmsProfile(BytesIO(profile))
        mode = _MODES.get(source.profile.xcolor_space.strip())
        if colours.mode == "L" and mode == "RGB":
            colours = colours.convert("RGB")
        if colours.mode != mode:
            return None
        srgb = _library.createProfile("sRGB")
        converted = _library.profileToProfile(colours, source, srgb, outputMode="RGB")
    except (OSError, ImageCms.PyCMSError):
        return None
    return cast("Image.Image", converted)
