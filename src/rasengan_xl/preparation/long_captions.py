"""Which captions are longer than the text encoders read."""

from collections.abc import Iterable, Sequence
from itertools import islice

from transformers import CLIPTokenizer

from rasengan_xl.dataset.plan import PlannedPicture
from rasengan_xl.runs.records import Record
from rasengan_xl.sdxl.prompts import count_tokens, find_cut_off, token_limit

MOST_EXAMPLES = 5
MOST_CUT_OFF_KEPT = 500
"""Characters; a whole book may have been taken for a caption."""


class LongCaption(Record):
    """A caption whose end is cut off."""

    name: str
    """Of its picture."""
    tokens: int
    """Marks of start and end included."""
    cut_off: str
    """The end that the text encoder never sees, or the beginning of it where it is very long."""


class LongCaptions(Record):
    """What one text encoder does not see of a dataset's captions."""

    tokenizer: str
    limit: int
    """Most tokens, marks of start and end included."""
    count: int
    """Different wordings that are longer."""
    wordings: int
    """Different wordings in all."""
    longest: int
    """Tokens of the longest one."""
    examples: tuple[LongCaption, ...]
    """The longest ones."""


def measure_captions(
    pictures: Iterable[PlannedPicture], tokenizers: Sequence[CLIPTokenizer], names: Sequence[str]
) -> tuple[LongCaptions, ...]:
    """Measure every wording with each tokenizer.

    Args:
        pictures: Those that are used, held out or not.
        tokenizers: One per text encoder.
        names: Of the tokenizers.
    """
    owners: dict[str, str] = {}
    for planned in pictures:
        for wording in planned.wordings:
            owners.setdefault(wording, planned.picture.name)
    return tuple(_measure(owners, *each) for each in zip(tokenizers, names, strict=True))


def _measure(owners: dict[str, str], tokenizer: CLIPTokenizer, name: str) -> LongCaptions:
    wordings, limit = list(owners), token_limit(tokenizer)
    lengths = count_tokens(wordings, tokenizer)
    ranked = sorted(zip(lengths, wordings, strict=True), key=lambda pair: -pair[0])
    long = [(tokens, wording) for tokens, wording in ranked if tokens > limit]
    return LongCaptions(
        tokenizer=name,
        limit=limit,
        count=len(long),
        wordings=len(wordings),
        longest=max(lengths),
        examples=tuple(
            LongCaption(
                name=owners[wording],
                tokens=tokens,
                cut_off=find_cut_off(wording, tokenizer)[:MOST_CUT_OFF_KEPT],
            )
            for tokens, wording in islice(long, MOST_EXAMPLES)
        ),
    )
