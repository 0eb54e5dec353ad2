"""What is known of a picture by its bytes alone, worked out once for all processes."""

import json
from typing import cast

import PIL
from PIL import Image, UnidentifiedImageError

from rasengan_xl.errors import DatasetError
from rasengan_xl.fact_index import FactIndex
from rasengan_xl.sources.candidates import Fault
from rasengan_xl.sources.decoding import PictureFacts, inspect_picture

INSPECTION = 2
"""To be raised when `inspect_picture` finds other facts or faults than it did."""
_KIND = f"picture, inspection {INSPECTION}, Pillow {PIL.__version__}"


def recall_facts(index: FactIndex, digest: str) -> PictureFacts | Fault | None:
    """Return what was found out about a picture before, here or in another process.

    Args:
        index: Where it was put.
        digest: SHA-256 of the encoded picture.
    """
    known = index.get(_KIND, digest)
    return None if known is None else _from_json(known)


def inspect_content(
    content: bytes, digest: str, name: str, index: FactIndex
) -> PictureFacts | Fault:
    """Decode a picture whole to learn its facts, and remember them.

    Args:
        content: The encoded picture.
        digest: Its SHA-256.
        name: What to call it in a fault.
        index: Where the facts go.
    """
    try:
        facts = inspect_picture(content, name)
    except DatasetError as fault:
        facts = Fault(_reason(fault.__cause__), str(fault).removeprefix(f"{name}: "))
    index.put(_KIND, digest, _to_json(facts))
    return facts


def _reason(cause: BaseException | None) -> str:
    if isinstance(cause, Image.DecompressionBombError):
        return "too many pixels"
    return "no picture" if isinstance(cause, UnidentifiedImageError) else "damaged picture"


def _to_json(facts: PictureFacts | Fault) -> bytes:
    if isinstance(facts, Fault):
        return json.dumps([facts.reason, facts.detail]).encode()
    values = (facts.width, facts.height, facts.animated, facts.look.hex(), facts.notes)
    return json.dumps(values).encode()


def _from_json(known: bytes) -> PictureFacts | Fault:
    values = json.loads(known)
    if len(values) == 2:
        return Fault(*cast("list[str]", values))
    width, height, animated, look, notes = cast("tuple[int, int, bool, str, list[str]]", values)
    return PictureFacts(
        width=width,
        height=height,
        animated=animated,
        look=bytes.fromhex(look),
        notes=tuple(notes),
    )
