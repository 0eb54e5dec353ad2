"""Which pictures are the same, or look it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rasengan_xl.sources.looks import LOOK_BYTES

ALIKE_BITS = 12
"""Most bits of 256 in which pictures that look alike differ. Measured on drawn portraits: saving
as JPEG changes at most 6, halving the size at most 10; two portraits differ in 39 or more."""

_CHUNKS = 16
_BITS = 8 * LOOK_BYTES

Group = tuple[int, ...]


def group_copies(digests: Sequence[str]) -> list[Group]:
    """Return the rows of every picture that is there more than once, in order."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        rows[digest].append(row)
    return [tuple(group) for group in rows.values() if len(group) > 1]


def group_alike(looks: Sequence[bytes], most_bits: int = ALIKE_BITS) -> list[Group]:
    """Return the rows of pictures that look alike, in order; alike is who is alike to a third.

    Looks that differ in fewer bits than they have 16-bit chunks agree in at least one whole
    chunk, so that only pictures which share a chunk are compared. A picture with hardly an edge,
    less than twice `most_bits` bits set or unset, is like no other: all even pictures would be
    alike.

    Args:
        looks: Of 32 bytes each, or empty if unknown.
        most_bits: In which two of them may differ; less than 16.
    """
    assert most_bits < _CHUNKS
    by_look: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, look in enumerate(looks):
        if _tells_something(look, most_bits):
            by_look[look].append(row)
    forest = _Forest(len(by_look))
    for first, second in _alike_pairs(list(by_look), most_bits):
        forest.join(first, second)
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for number, rows in enumerate(by_look.values()):
        groups[forest.root(number)].extend(rows)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def _tells_something(look: bytes, most_bits: int) -> bool:
    bits = int.from_bytes(look, "big").bit_count()
    return 2 * most_bits <= bits <= _BITS - 2 * most_bits


def _alike_pairs(looks: Sequence[bytes], most_bits: int) -> Iterator[tuple[int, int]]:
    if not looks:
        return
    table = np.frombuffer(b"".join(looks), dtype=np.uint8).reshape(-1, LOOK_BYTES)
    words = table.view(np.uint64)
    for chunk in _chunks(table).T:
        for rows in _rows_with_equal_values(chunk):
            for place, row in enumerate(rows[:-1]):
                others = rows[place + 1 :]
                apart = np.bitwise_count(words[others] ^ words[row]).sum(axis=1)
                for other in others[apart <= most_bits]:
                    yield int(row), int(other)


def _chunks(table: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Part looks into chunks, each with one bit of every row and column of the picture.

    An even sky or border would leave whole rows or columns unset in most pictures, and chunks
    made of these would part nothing.
    """
    bits = np.unpackbits(table, axis=1)
    row, column = np.divmod(np.arange(_BITS), _CHUNKS)
    diagonal = np.argsort((column - row) % _CHUNKS, kind="stable")
    return np.ascontiguousarray(np.packbits(bits[:, diagonal], axis=1)).view(np.uint16)


def _rows_with_equal_values(values: NDArray[np.uint16]) -> Iterator[NDArray[np.intp]]:
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order])) + 1
    return (rows for rows in np.split(order, starts) if len(rows) > 1)


class _Forest:
    """Disjoint sets, merged one pair at a time."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def root(self, member: int) -> int:
        """Return who stands for a member's set."""
        parents = self._parents
        while parents[member] != member:
            parents[member] = parents[parents[member]]
            member = parents[member]
        return member

    def join(self, first: int, second: int) -> None:
        """Merge the sets of two members."""
        self._parents[self.root(second)] = self.root(first)
