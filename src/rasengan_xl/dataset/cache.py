"""Where encoded pictures and captions are kept between runs: files named by what is in them."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = "1"
"""Raised when the way of encoding changes, so that older files are not taken for new ones."""


def cache_folder() -> Path:
    """Return the folder for encoded data: `RASENGAN_CACHE`, or the user's cache folder."""
    told = os.environ.get("RASENGAN_CACHE")
    if told:
        return Path(told)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "rasengan-xl"


def content_key(*parts: object, contents: Iterable[str]) -> str:
    """Return a name that changes when anything that was encoded, or its encoder, does."""
    digest = hashlib.sha256(FORMAT.encode())
    for part in (*map(str, parts), *contents):
        digest.update(f"\x1f{part}".encode())
    return digest.hexdigest()[:32]


def read_cached(file: Path) -> dict[str, Tensor] | None:
    """Read what was kept, or None if it is not there or cannot be read."""
    try:
        return load_file(file)
    except (FileNotFoundError, SafetensorError):
        return None


def keep(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}.part")
    save_file(tensors, draft)
    draft.replace(file)
