"""Pictures as PNG files that say how they were made."""

import json
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

SETTINGS_KEY = "rasengan"
"""Text chunk of a PNG that holds its settings as JSON."""


def save_picture(picture: Image.Image, file: Path, settings: dict[str, Any]) -> None:
    """Write a picture with its settings inside."""
    text = PngImagePlugin.PngInfo()
    text.add_text(SETTINGS_KEY, json.dumps(settings, sort_keys=True))
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file, pnginfo=text)


def side_by_side(left: Image.Image, right: Image.Image, gap: int = 2) -> Image.Image:
    """Join two pictures of one height, with a white gap in pixels between them."""
    joined = Image.new("RGB", (left.width + gap + right.width, left.height), "white")
    joined.paste(left, (0, 0))
    joined.paste(right, (left.width + gap, 0))
    return joined
