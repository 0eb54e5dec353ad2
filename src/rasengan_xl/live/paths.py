"""Which file of a folder a request may see: none outside it, none hidden, none of unknown kind."""

import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".log": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
"""By ending of the file's name; files of any other kind are not served."""
_NAME = re.compile(r"[^./\\:\x00-\x1f\x7f][^/\\:\x00-\x1f\x7f]*")
"""A name that is neither hidden nor able to lead elsewhere, here or on Windows."""


def parse_path(target: str) -> tuple[str, ...] | None:
    """Split what a request asks for into names; None: it is no plain path.

    Each name is decoded once, after the path was split, so that no encoded slash can split it.

    Args:
        target: As it stands in the first line of the request.
    """
    if not target.startswith("/") or target.startswith("//"):
        return None
    path = urlsplit(target).path[1:]
    if not path:
        return ()
    try:
        names = tuple(unquote_to_bytes(name).decode() for name in path.split("/"))
    except UnicodeDecodeError:
        return None
    return names if all(_NAME.fullmatch(name) for name in names) else None


def find_file(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Return the regular file of a served kind that lies within the folder; None: there is none.

    A link is followed, and counts as what it leads to.
    """
    try:
        root = folder.resolve(strict=True)
        file = root.joinpath(*names).resolve(strict=True)
        if not file.is_relative_to(root) or not file.is_file():
            return None
    except (OSError, RuntimeError):  # missing, unreadable, or a circle of links
        return None
    inside = file.relative_to(root).parts
    is_hidden = any(name.startswith(".") for name in inside)
    return None if is_hidden or file.suffix not in CONTENT_TYPES else file
