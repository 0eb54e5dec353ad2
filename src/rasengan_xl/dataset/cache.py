"""Where encoded pictures and captions are kept between runs: files named by what is in them."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from rasengan_xl.tensor_file import UNREADABLE, read_tensors

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
        return read_tensors(file)
    except UNREADABLE:
        return None
