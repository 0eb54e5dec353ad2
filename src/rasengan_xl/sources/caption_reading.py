"""What counts as a caption, wherever it was found."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from rasengan_xl.sources.candidates import Fault
from rasengan_xl.sources.names import printable

_LARGEST_BYTES = 1 << 20
"""Nobody writes a caption of a mebibyte: such a file is something else."""
_LINE_END = re.compile(r"\r\n|\r|\n")
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def check_captions(texts: Iterable[str], remedy: str) -> tuple[str, ...] | Fault:
    """Even out white space, as CLIP's tokenizers would do later anyway, and drop empty texts.

    Args:
        texts: Captions of one picture.
        remedy: What to do if none of them says anything.
    """
    captions: list[str] = []
    for text in texts:
        if odd := _NO_TEXT.search(text):
            return Fault(
                "caption with control characters",
                f"its caption holds the character U+{ord(odd[0]):04X}, which is no text: remove it",
            )
        if _HALF_CHARACTER.search(text):
            return Fault(
                "caption not UTF-8", "its caption holds half a character: write it anew as UTF-8"
            )
        if words := " ".join(text.split()):
            captions.append(words)
    return tuple(captions) or Fault("no caption", f"no caption: {remedy}")


def read_caption_file(file: Path, remedy: str) -> tuple[str, ...] | Fault:
    """Read the captions of a text file, one on each line."""
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST_BYTES + 1)
    except OSError as fault:
        return Fault(
            "unreadable caption",
            f"its caption {printable(file.name)} cannot be read ({fault.strerror or fault}): "
            "allow reading it, or write it anew",
        )
    return decode_captions(content, printable(file.name), remedy)


def decode_captions(content: bytes, where: str, remedy: str) -> tuple[str, ...] | Fault:
    """Take the bytes of a text file apart into captions, one on each line.

    Args:
        content: UTF-8, with or without a byte order mark.
        where: Name of the file, for the fault.
        remedy: What to do if it says nothing.
    """
    if len(content) > _LARGEST_BYTES:
        return Fault(
            "caption too long",
            f"its caption {where} is larger than {_LARGEST_BYTES >> 20} MiB: shorten it",
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        return Fault(
            "caption not UTF-8", f"its caption {where} is not UTF-8 ({fault}): save it as UTF-8"
        )
    return check_captions(_LINE_END.split(text), remedy)


def decode_json(content: bytes, where: str) -> dict[str, object] | Fault:
    """Read the bytes of a JSON file that describes one picture."""
    try:
        tree = json.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as fault:
        return Fault("unreadable caption", f"{where} is not JSON ({fault}): mend it")
    if not isinstance(tree, dict):
        return Fault("unreadable caption", f"{where} holds no object in braces: mend it")
    return cast("dict[str, object]", tree)


def texts_of(cell: object) -> list[str] | None:
    """Return the captions in the cell of a table: a text, a list of texts, or none at all.

    Returns:
        The texts as they stand; nothing if the cell holds something else.
    """
    if cell is None:
        return []
    if isinstance(cell, str):
        return [cell]
    if isinstance(cell, list | tuple):
        items = cast("list[object]", cell)
        texts = [item for item in items if isinstance(item, str)]
        return texts if len(texts) == sum(item is not None for item in items) else None
    return None
