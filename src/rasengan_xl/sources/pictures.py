"""What a dataset is made of: captioned pictures, known by what they contain."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.decoding import decode_picture, describe_unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedPicture:
    """A picture that can be used, and its words; it stays on disk until it is loaded."""

    name: str
    """For messages and records: the path inside its folder, or `row 17`."""
    captions: tuple[str, ...]
    """As the source tells them, white space evened out; at least one, none empty."""
    class_name: str = ""
    """Name of its folder, or its label in a table; empty if it has none."""
    picture_digest: str
    """SHA-256 of the picture alone: the same for one picture with two captions."""
    width: int
    """Of the picture held upright, in pixels; so is `height`."""
    height: int
    animated: bool = False
    """Whether only the first of several frames is used."""
    look: bytes = b""
    """Perceptual fingerprint of 32 bytes: few bits differ between pictures that look alike."""
    notes: tuple[str, ...] = ()
    """What was wrong with the file and yet did not keep it from being used."""
    read: Callable[[], bytes] = field(repr=False, compare=False)
    """Returns the encoded image file, anew at each call."""

    @property
    def digest(self) -> str:
        """SHA-256 over picture and captions: who this is to the sample order."""
        return hash_bytes("\n".join((self.picture_digest, *self.captions)).encode())

    def load(self, background: str = "white") -> Image.Image:
        """Decode the picture to upright sRGB, transparency laid over a background.

        Raises:
            DatasetError: The picture is damaged, gone, or no longer the one that was opened.
        """
        try:
            content = self.read()
        except OSError as fault:
            raise DatasetError(describe_unreadable(self.name, fault)) from fault
        return decode_picture(content, self.name, background)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedPicture:
    """Something that was found as a picture to train on and cannot be one."""

    name: str
    reason: str
    """Its kind, to be counted by: `no caption`, `unreadable picture`."""
    detail: str
    """What is wrong with this one, and the remedy; its name stands elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An opened dataset: every picture found is either used or skipped."""

    name: str
    """As the user named it: `mini`, a path, an address or a hub id."""
    revision: str | None
    """Commit of a hub dataset."""
    pictures: Sequence[CaptionedPicture]
    skipped: Sequence[SkippedPicture] = ()
    ignored: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many files were passed over that claim to be neither picture nor caption, by kind."""


def count_reasons(skipped: Sequence[SkippedPicture]) -> dict[str, int]:
    """Count skipped pictures by reason, the most frequent first."""
    return dict(Counter(picture.reason for picture in skipped).most_common())


def hash_bytes(content: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
