"""What a dataset is made of: captioned pictures, known by what they contain."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from rasengan_xl.dataset.decoding import decode_picture, describe_unreadable, find_fault
from rasengan_xl.errors import DatasetError


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedPicture:
    """A picture and its words; the picture stays on disk until it is loaded."""

    name: str
    """For messages and records: the path inside its folder, or `row 17`."""
    caption: str
    picture_digest: str
    """SHA-256 of the picture alone: the same for one picture with two captions."""
    read: Callable[[], bytes] = field(repr=False, compare=False)
    """Returns the encoded image file, anew at each call."""

    @property
    def digest(self) -> str:
        """SHA-256 over picture and caption: who this is to the cache and the sample order."""
        return hash_bytes(f"{self.picture_digest}\n{self.caption}".encode())

    def load(self) -> Image.Image:
        """Decode the picture to upright RGB, transparency laid over white.

        Raises:
            DatasetError: The picture is damaged or gone.
        """
        try:
            content = self.read()
        except OSError as fault:
            raise DatasetError(describe_unreadable(self.name, fault)) from fault
        return decode_picture(content, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An opened dataset: every picture that will be used, and what was passed over."""

    name: str
    """As the user named it: `mini`, a path or a hub id."""
    revision: str | None
    """Commit of a hub dataset."""
    pictures: Sequence[CaptionedPicture]
    ignored: Mapping[str, int]
    """How many files were passed over, by reason; none of them is a picture to train on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a reader found, before it is known to be a picture with a caption."""

    name: str
    caption: str | None
    caption_remedy: str
    """What to do if there is no caption."""
    read: Callable[[], bytes]


def take_pictures(candidates: Iterable[Candidate], source: str) -> tuple[CaptionedPicture, ...]:
    """Read every candidate once, to hash it and to refuse what cannot be used.

    White space in captions is evened out, as CLIP's tokenizers would do later anyway.

    Raises:
        DatasetError: There is no candidate, or some lack a caption or are no pictures; the
            message names the first one and counts the others.
    """
    taken: list[CaptionedPicture] = []
    faults: list[str] = []
    for candidate in candidates:
        caption = " ".join((candidate.caption or "").split())
        if not caption:
            faults.append(f"{candidate.name}: no caption: {candidate.caption_remedy}")
            continue
        try:
            content = candidate.read()
        except OSError as fault:
            faults.append(describe_unreadable(candidate.name, fault))
            continue
        if fault := find_fault(content, candidate.name):
            faults.append(fault)
            continue
        taken.append(
            CaptionedPicture(
                name=candidate.name,
                caption=caption,
                picture_digest=hash_bytes(content),
                read=candidate.read,
            )
        )
    if faults:
        others = f" (and {len(faults) - 1} more like this)" if len(faults) > 1 else ""
        raise DatasetError(f"{source}: {faults[0]}{others}")
    if not taken:
        raise DatasetError(f"{source}: the dataset is empty: name one that holds pictures")
    return tuple(taken)


def hash_bytes(content: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
