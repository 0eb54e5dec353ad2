"""How an encoded image file becomes the picture a person sees: upright, 8-bit sRGB, opaque."""

import struct
import warnings
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, features

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.colour_profiles import convert_to_srgb
from rasengan_xl.sources.looks import take_look

# Pillow would also try formats that run other programs (EPS) or are never photographs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM") + (
    ("AVIF",) if "avif" in features.get_supported() else ()
)
# What Pillow raises on damaged files; each plugin has its own habits.
_FAULTS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, MemoryError,
    AttributeError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
_ORIENTATION = 0x0112
# What undoes each value of that EXIF tag (Exif 3.0, section 4.6.5.1.6); 1 is upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """What is known of a picture once it has been decoded."""

    width: int
    """Of the picture held upright, in pixels; so is `height`."""
    height: int
    animated: bool
    """Whether only the first of several frames is used."""
    look: bytes
    """Perceptual fingerprint of 32 bytes: few bits differ between pictures that look alike."""
    notes: tuple[str, ...] = ()
    """What was wrong with the file and yet did not keep it from being used."""


def decode_picture(content: bytes, name: str, background: str = "white") -> Image.Image:
    """Decode an image file to upright sRGB; of an animation, its first frame.

    Pixels are taken as sRGB where the file has no colour profile, or none that can be used.

    Args:
        content: The encoded file.
        name: What to call the picture in an error.
        background: Colour that shows through where the picture is transparent.

    Raises:
        DatasetError: The file is damaged, of an unknown format, of more pixels than Pillow takes
            for genuine, or its pixels have no fixed range.
    """
    return _decode(content, name, background).image


def inspect_picture(content: bytes, name: str) -> PictureFacts:
    """Decode an image file whole and say what it is.

    Raises:
        DatasetError: As `decode_picture` does.
    """
    decoded = _decode(content, name, "white")
    return PictureFacts(
        width=decoded.image.width,
        height=decoded.image.height,
        animated=decoded.animated,
        look=take_look(decoded.image),
        notes=decoded.notes,
    )


def describe_unreadable(name: str, fault: Exception) -> str:
    """Word the error for a picture that cannot be used, in one line."""
    reason = " ".join(str(fault).split()) or type(fault).__name__
    if isinstance(fault, UnidentifiedImageError):
        reason = "not a known image format"  # Pillow's own words name a memory address
    elif isinstance(fault, Image.DecompressionBombError):
        reason = "it unpacks to more pixels than a picture has; make it smaller"
    return f"{name}: not a readable picture ({reason}): remove or repair it"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decoded:
    image: Image.Image
    animated: bool
    notes: tuple[str, ...]


def _decode(content: bytes, name: str, background: str) -> _Decoded:
    try:
        with (
            _pillow_not_warning(),
            Image.open(BytesIO(content), formats=_FORMATS) as file,
        ):
            # A photograph's second frame in MPO is its preview, its depth or its other eye.
            animated = getattr(file, "is_animated", False) and file.format != "MPO"
            upright, exif_note = _turn_upright(file)
            # Lab tells colours by themselves; its profile describes Lab and not a device.
            profile = None if file.mode == "LAB" else file.info.get("icc_profile")
            colours, opacity = _part(upright, file.format)
            image, profile_note = _to_srgb(colours, profile)
    except _FAULTS as fault:
        raise DatasetError(describe_unreadable(name, fault)) from fault
    if opacity is not None:
        paper = Image.new("RGB", image.size, background)
        image = Image.composite(image, paper, opacity)
    return _Decoded(
        image=image,
        animated=animated,
        notes=tuple(note for note in (exif_note, profile_note) if note),
    )


@contextmanager
def _pillow_not_warning() -> Generator[None]:
    """Let Pillow not speak of large pictures (its limit stands) and of odd metadata."""
    with warnings.catch_warnings():
        # Narrow, because threads that decode at once may leave it in place.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _turn_upright(file: ImageFile.ImageFile) -> tuple[Image.Image, str | None]:
    file.load()
    try:
        orientation = file.getexif().get(_ORIENTATION, 1)
    except _FAULTS:
        return file, "damaged EXIF data: taken as upright"
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return (file if turn is None else file.transpose(turn)), None


def _part(image: Image.Image, file_format: str | None) -> tuple[Image.Image, Image.Image | None]:
    """Part a picture into colours (L, RGB or CMYK) and opacity (L), all of 8 bits."""
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format == "PPM"):
        return _part_deep_grey(image)
    if image.mode in {"I", "F"}:
        raise ValueError("32-bit pixels have no fixed range; save it with 8 bits per channel")
    grey = image.mode in {"1", "L", "LA", "La"}
    opacity: Image.Image | None = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        opacity = image.getchannel("A")
    if grey:
        # Not by weighing the three channels: they are equal, and rounding could shift them.
        return (image.convert("L") if opacity is None else image.getchannel("R")), opacity
    return (image if image.mode == "CMYK" else image.convert("RGB")), opacity


def _part_deep_grey(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    # Pillow's own conversion clips in some modes: all but the darkest 1/256 would be white.
    tones = np.asarray(image)
    colours = Image.fromarray(np.rint(tones / 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is None:
        return colours, None
    return colours, Image.fromarray(np.where(tones == transparent, 0, 255).astype(np.uint8))


def _to_srgb(colours: Image.Image, profile: object) -> tuple[Image.Image, str | None]:
    if not isinstance(profile, bytes) or not profile:
        return colours.convert("RGB"), None
    converted = convert_to_srgb(colours, profile)
    if converted is None:
        return colours.convert("RGB"), "unusable colour profile: taken as sRGB"
    return converted, None
