"""What is kept as JSON of each picture of a dataset, and of all together."""

from typing import Literal

from rasengan_xl.preparation.long_captions import LongCaptions
from rasengan_xl.runs.records import Record

Outcome = Literal["trained", "held out", "skipped"]


class CropRecord(Record):
    """One way in which a picture is cut; all lengths in pixels."""

    resized_width: int
    """Of the whole picture, before it is cut."""
    resized_height: int
    flipped: bool
    """Mirrored before it is cut."""
    left: int
    """Of the box in the resized picture; its size is the bucket's."""
    top: int


class PictureRecord(Record):
    """What happened to one picture."""

    number: int
    """Its line in the list, from 1."""
    name: str
    outcome: Outcome
    reason: str | None = None
    """Of a skipped picture: its kind."""
    detail: str | None = None
    """Of a skipped picture: what is wrong with it, and the remedy."""
    width: int | None = None
    """In pixels, held upright; so is `height`."""
    height: int | None = None
    bucket: str | None = None
    """Width x height that it is trained at."""
    crops: tuple[CropRecord, ...] = ()
    upscaled_by: float | None = None
    """Absent unless it is enlarged."""
    animated: bool = False
    """Whether only the first of several frames is used."""
    wordings: int = 0
    """Different captions that a step may draw."""
    copy_of: int | None = None
    """Number of the first picture that is the same."""
    looks_like: int | None = None
    """Number of the first picture that looks like this one, copies apart."""
    notes: tuple[str, ...] = ()
    """What was wrong with the file and yet did not keep it from being used."""


class BucketCount(Record):
    """How many pictures are cut to one size."""

    trained: int
    held_out: int


class LookAlike(Record):
    """A held-out picture that looks like one that is trained on."""

    held_out: str
    trained: str


class AccountSummary(Record):
    """A dataset in numbers; found = used + skipped, used = trained + held out."""

    source: str
    revision: str | None
    found: int
    used: int
    trained: int
    held_out: int
    skipped: int
    skipped_by_reason: dict[str, int]
    skipped_examples: dict[str, str]
    """By reason, the first such picture and what is wrong with it."""
    ignored_files: dict[str, int]
    """Files that claim to be neither picture nor caption, by kind."""
    upscaled: int
    animated: int
    notes: dict[str, int]
    """Pictures that are used although something is wrong with the file, by what it is."""
    buckets: dict[str, BucketCount]
    """By width x height, the most pictures first."""
    copies: int
    """Pictures that are the same as an earlier one."""
    alike: int
    """Pictures that are not the same as an earlier one, but look like it."""
    held_out_alike: int
    """Held-out pictures that look like one that is trained on: held-out loss flatters."""
    held_out_alike_examples: tuple[LookAlike, ...]
    captions: tuple[LongCaptions, ...]
    """Captions longer than each tokenizer reads."""
