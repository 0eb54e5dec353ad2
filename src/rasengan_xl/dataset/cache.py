"""Where encoded pictures and captions are kept between runs: files named by what is in them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from rasengan_xl.tensor_file import UNREADABLE, read_tensors

FORMAT = "1"
"""Raised when the way of encoding changes, so that older files are not taken for new ones."""


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
