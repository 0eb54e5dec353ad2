"""The one thing that every reader of a dataset gives: what it found, before anyone looked at it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something that was found cannot be trained on."""

    reason: str
    """Its kind, to be counted by."""
    detail: str
    """What is wrong, and the remedy; what it is about stands elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a reader takes for a picture to train on."""

    name: str
    """The path inside its folder, or `row 17`."""
    captions: tuple[str, ...] | Fault
    """White space evened out, none empty; or why the picture is out before it is looked at."""
    class_name: str = ""
    content_key: str | None = None
    """Stands for the picture's bytes: as long as it is the same, so are they."""
    read: Callable[[], bytes]
    """Returns the encoded image file; may raise OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A dataset as its reader found it."""

    name: str
    """As the user named it."""
    revision: str | None = None
    candidates: Iterable[Candidate]
    """In the order of the dataset; they can be gone through once."""
    count: int | None = None
    """How many candidates there are, if that is known before they are gone through."""
    ignored: Mapping[str, int] = field(default_factory=dict[str, int])


def refuse_to_read() -> bytes:
    """Stand in for `Candidate.read` where there is nothing to be read."""
    raise OSError("there is no picture to be read")
