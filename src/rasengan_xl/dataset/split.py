"""Which pictures are held out: chosen by content, so that every run and machine agrees."""

import hashlib
from collections.abc import Sequence
from itertools import groupby

from rasengan_xl.dataset.pictures import CaptionedPicture
from rasengan_xl.errors import DatasetError

Pictures = tuple[CaptionedPicture, ...]


def split_held_out(
    pictures: Sequence[CaptionedPicture], share: float, minimum: int
) -> tuple[Pictures, Pictures]:
    """Part the pictures into those to train on and those held out, each in the given order.

    The smallest digests are held out: adding or removing pictures moves few others across.
    Copies of one picture stay together, so that none is trained on and held out; the held-out
    part is larger than asked where its last picture has copies.

    Args:
        pictures: All of them.
        share: Of the pictures, to be held out.
        minimum: Hold out at least this many.

    Raises:
        DatasetError: Nothing would be left to train on.
    """
    wanted = max(minimum, round(share * len(pictures)))
    held_out: set[str] = set()
    count = 0
    for digest, copies in groupby(sorted(picture.picture_digest for picture in pictures)):
        if count >= wanted:
            break
        held_out.add(digest)
        count += len(list(copies))
    if count >= len(pictures):
        raise DatasetError(
            f"{wanted} of {len(pictures)} pictures would be held out, copies of one picture "
            "together, and none left to train on: add pictures, or hold out fewer "
            "(--set dataset.held_out_minimum=...)"
        )
    return (
        tuple(picture for picture in pictures if picture.picture_digest not in held_out),
        tuple(picture for picture in pictures if picture.picture_digest in held_out),
    )


def fingerprint(pictures: Sequence[CaptionedPicture]) -> str:
    """Return the SHA-256 over every picture and caption, in order."""
    running = hashlib.sha256()
    for picture in pictures:
        running.update(bytes.fromhex(picture.digest))
    return running.hexdigest()
