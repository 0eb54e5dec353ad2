"""Pictures as PNG files that say how they were made, to us and to A1111 and ComfyUI."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from rasengan_xl.generation.comfyui_graph import write_graph
from rasengan_xl.generation.parameters_text import PictureFacts, write_parameters
from rasengan_xl.whole_file import write_bytes_whole

SETTINGS_KEY = "rasengan"
"""Text chunk of a PNG that holds its settings as JSON."""
A1111_KEY, COMFYUI_KEY = "parameters", "prompt"


def save_picture(picture: Image.Image, file: Path, settings: dict[str, Any]) -> None:
    """Write a picture with its settings inside.

    Raises:
        UnwritableError: It cannot be written; the file is as it was.
    """
    _write(picture, file, {SETTINGS_KEY: _as_json(settings)})


def save_drawn(picture: Image.Image, file: Path, facts: PictureFacts, subject: str) -> None:
    """Write a picture with its settings inside, also as A1111 and ComfyUI read them.

    Args:
        picture: As it was drawn.
        file: Where to.
        facts: How it was drawn.
        subject: What it was drawn with, in a few words.

    Raises:
        UnwritableError: It cannot be written; the file is as it was.
    """
    texts = {
        SETTINGS_KEY: _as_json({"subject": subject, **_plain(facts)}),
        A1111_KEY: write_parameters(facts),
    }
    if graph := write_graph(facts):
        texts[COMFYUI_KEY] = _as_json(graph)
    _write(picture, file, texts)


def _plain(facts: PictureFacts) -> dict[str, Any]:
    described: dict[str, Any] = {
        name: getattr(facts, name) for name in PictureFacts.__slots__ if name != "sampler"
    }
    described["adapters"] = [
        {"name": a.name, "file": a.file, "strength": a.strength} for a in facts.adapters
    ]
    return described


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _write(picture: Image.Image, file: Path, texts: dict[str, str]) -> None:
    chunks = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        chunks.add_text(key, text)
    content = BytesIO()
    picture.save(content, format="PNG", pnginfo=chunks)
    write_bytes_whole(file, content.getbuffer())
