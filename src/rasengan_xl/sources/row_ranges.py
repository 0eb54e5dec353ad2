"""Which rows a split such as `train[:100]` asks for."""

import re
from typing import Any

import datasets

from rasengan_xl.errors import DatasetError

_instruction: Any = datasets.ReadInstruction  # its results carry no types
_ROWS = re.compile(r"(?P<name>[^\[\]+]+)(\[(?P<start>\d*):(?P<stop>\d*)\])?")


def split_name(split: str) -> str:
    """Return the split's name without its slice."""
    return split.partition("[")[0]


def choose_rows(split: str, num_rows: int) -> range:
    """Return the rows of a split, of which there are so many, that its slice asks for.

    Args:
        split: Such as `train`, `train[:100]` or `train[10%:20%]`.
        num_rows: Of the whole split.

    Raises:
        DatasetError: The slice cannot be understood.
    """
    try:
        (part,) = _instruction.from_spec(split).to_absolute({split_name(split): num_rows})
    except (ValueError, AssertionError, KeyError) as fault:
        raise _not_understood(split, "") from fault
    return range(part.from_ or 0, num_rows if part.to is None else part.to)


def choose_streamed_rows(split: str) -> tuple[int, int | None]:
    """Return the first row that a split asks for and the one after the last, if there is one.

    Raises:
        DatasetError: The slice counts from the end or in percent, which a stream cannot.
    """
    parts = _ROWS.fullmatch(split)
    if parts is None:
        raise _not_understood(split, ", counting from the beginning, for a stream")
    return int(parts["start"] or 0), int(parts["stop"]) if parts["stop"] else None


def _not_understood(split: str, limit: str) -> DatasetError:
    return DatasetError(
        f"dataset.split: '{split}' is not understood: write train or train[100:200]{limit}"
    )
