"""Which pictures are held out: chosen by content, so that every run and machine agrees."""

import hashlib
from collections.abc import Sequence
from itertools import groupby

from rasengan_xl.dataset.plan import Planned, PlannedPicture
from rasengan_xl.errors import DatasetError


def split_held_out(
    pictures: Sequence[PlannedPicture], share: float, minimum: int
) -> tuple[Planned, Planned]:
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
    for digest, copies in groupby(sorted(map(_digest, pictures))):
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
        tuple(picture for picture in pictures if _digest(picture) not in held_out),
        tuple(picture for picture in pictures if _digest(picture) in held_out),
    )


def fingerprint(pictures: Sequence[PlannedPicture]) -> str:
    """Return the SHA-256 over every picture and all its wordings, in order."""
    running = hashlib.sha256()
    for planned in pictures:
        running.update(bytes.fromhex(planned.picture.digest))
        running.update("\n".join((*planned.wordings, "")).encode())
    return running.hexdigest()


def _digest(planned: PlannedPicture) -> str:
    return planned.picture.picture_digest
