"""When each piece of memory is taken and given back, and what there is when most is taken."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

BLOCK = 512
"""PyTorch's CUDA allocator gives out multiples of this many bytes (c10/cuda, kMinBlockSize)."""


def as_block(size: int) -> int:
    """Return how many bytes the CUDA allocator counts for a tensor of a size."""
    return -(-size // BLOCK) * BLOCK


@dataclass(slots=True)
class Ledger:
    """Every allocation and every release, in order."""

    sizes: list[int] = field(default_factory=list[int])
    """Bytes of each piece."""
    origins: list[str] = field(default_factory=list[str])
    """What made each piece."""
    moves: list[int] = field(default_factory=list[int])
    """The number n of a piece that is made, -n - 1 of one that dies."""
    marks: dict[str, int] = field(default_factory=dict[str, int])
    """Where in `moves` a phase begins, by name."""

    def take(self, size: int, origin: str) -> int:
        """Note that a piece is made; return its number."""
        number = len(self.sizes)
        self.sizes.append(as_block(size))
        self.origins.append(origin)
        self.moves.append(number)
        return number

    def give_back(self, number: int) -> None:
        """Note that a piece dies."""
        self.moves.append(-number - 1)

    def mark(self, phase: str) -> None:
        """Note that a phase begins."""
        self.marks[phase] = len(self.moves)

    def levels(self) -> list[int]:
        """Return how many bytes are taken after each move."""
        sizes = self.sizes
        return list(accumulate(sizes[n] if n >= 0 else -sizes[-n - 1] for n in self.moves))

    def alive_after(self, move: int) -> set[int]:
        """Return the numbers of the pieces that live after a move."""
        alive: set[int] = set()
        for number in self.moves[: move + 1]:
            if number >= 0:
                alive.add(number)
            else:
                alive.remove(-number - 1)
        return alive


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The moment at which most is taken."""

    total: int
    """Bytes."""
    phase: str
    """In which it comes."""
    kinds: dict[str, int]
    """Bytes by what they are for."""
    origins: dict[str, int]
    """Bytes by what made them, those of no named kind alone; most first."""


def find_peak(
    ledger: Ledger, named: Mapping[int, str], kept_at: str | None, first: int = 0
) -> Peak:
    """Find the moment at which most is taken, and what it is for.

    Args:
        ledger: Of one pass over a step.
        named: Kind of the pieces whose kind is known, by number.
        kept_at: Phase at whose beginning what lives is kept for it: "activations"; what has no
            kind and is not kept is "workspace".
        first: Move from which on a peak is looked for.
    """
    levels = ledger.levels()
    move = max(range(first, len(levels)), key=levels.__getitem__)
    kept = ledger.alive_after(ledger.marks[kept_at] - 1) if kept_at else set[int]()
    kinds: Counter[str] = Counter()
    origins: Counter[str] = Counter()
    for number in ledger.alive_after(move):
        kind = named.get(number) or ("activations" if number in kept else "workspace")
        kinds[kind] += ledger.sizes[number]
        if number not in named:
            origins[ledger.origins[number]] += ledger.sizes[number]
    begun = [phase for phase, start in ledger.marks.items() if start <= move]
    return Peak(
        total=levels[move],
        phase=begun[-1] if begun else "",
        kinds=dict(kinds.most_common()),
        origins=dict(origins.most_common()),
    )
