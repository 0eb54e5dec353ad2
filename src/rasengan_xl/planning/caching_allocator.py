"""How PyTorch's CUDA allocator would serve a ledger: what it counts as allocated, what it holds.

The rules of c10/cuda/CUDACachingAllocator.cpp, with default settings: small pieces share segments
of 2 MiB, middling ones of 20 MiB, and a large one has its own, rounded up to 2 MiB; the smallest
free block that is large enough is taken, and split if what would be left is worth it; neighbours
that are free become one.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field

from rasengan_xl.planning.ledger import BLOCK, Ledger

MIB = 2**20
_SMALL = MIB
_SMALL_SEGMENT, _MIDDLE_SEGMENT, _ROUNDING = 2 * MIB, 20 * MIB, 2 * MIB
_LEAST_LARGE = 10 * MIB


@dataclass(slots=True, eq=False)
class Block:
    """A stretch of a segment."""

    address: int
    """Of several of one size, the first is taken."""
    size: int
    small: bool
    free: bool = False
    before: "Block | None" = None
    after: "Block | None" = None


@dataclass(slots=True)
class CachingAllocator:
    """What is allocated and held after each call."""

    allocated: int = 0
    reserved: int = 0
    most_allocated: int = 0
    most_reserved: int = 0
    _next_address: int = 0
    """Never used again, so that what a ledger takes is the same each time."""
    _free: dict[bool, list[tuple[int, int]]] = field(default_factory=lambda: {True: [], False: []})
    _blocks: dict[int, Block] = field(default_factory=dict[int, Block])

    def take(self, size: int) -> Block:
        """Serve a request, already rounded up."""
        small = size <= _SMALL
        block = self._find(size, small) or self._open_segment(size, small)
        left = block.size - size
        if left >= BLOCK if small else left > _SMALL:
            address = block.address + size
            rest = Block(address, left, small, free=True, before=block, after=block.after)
            if block.after is not None:
                block.after.before = rest
            block.after, block.size = rest, size
            self._offer(rest)
        block.free = False
        self.allocated += block.size
        self.most_allocated = max(self.most_allocated, self.allocated)
        return block

    def give_back(self, block: Block) -> None:
        """Take a piece back, and join it with its free neighbours."""
        self.allocated -= block.size
        block.free = True
        if block.before is not None and block.before.free:
            block = self._join(block.before, block, known=block.before)
        if block.after is not None and block.after.free:
            block = self._join(block, block.after, known=block.after)
        self._offer(block)

    def release(self) -> None:
        """Give segments back of which nothing is in use, as `torch.cuda.empty_cache` does."""
        for block in list(self._blocks.values()):
            if block.before is None and block.after is None:
                self._withdraw(block)
                self.reserved -= block.size

    def _find(self, size: int, small: bool) -> Block | None:  # noqa: FBT001 - the pool's key
        free = self._free[small]
        place = bisect_left(free, (size, 0))
        if place == len(free):
            return None
        return self._blocks.pop(free.pop(place)[1])

    def _open_segment(self, size: int, small: bool) -> Block:  # noqa: FBT001
        if small:
            segment = _SMALL_SEGMENT
        elif size < _LEAST_LARGE:
            segment = _MIDDLE_SEGMENT
        else:
            segment = -(-size // _ROUNDING) * _ROUNDING
        self.reserved += segment
        self.most_reserved = max(self.most_reserved, self.reserved)
        self._next_address += segment
        return Block(self._next_address - segment, segment, small)

    def _offer(self, block: Block) -> None:
        self._blocks[block.address] = block
        insort(self._free[block.small], (block.size, block.address))

    def _withdraw(self, block: Block) -> None:
        free = self._free[block.small]
        del free[bisect_left(free, (block.size, block.address))]
        del self._blocks[block.address]

    def _join(self, left: Block, right: Block, *, known: Block) -> Block:
        """Make one block of two; `known` is the one that was on offer."""
        self._withdraw(known)
        left.size += right.size
        left.after = right.after
        if right.after is not None:
            right.after.before = left
        return left


def replay(ledger: Ledger) -> CachingAllocator:
    """Serve everything that a ledger notes, in order."""
    allocator = CachingAllocator()
    _serve(allocator, ledger, ledger.moves)
    return allocator


def most_reserved_recorded(ledger: Ledger, start: int) -> int:
    """Return the most that is held where the step is recorded as a CUDA graph.

    It is computed once before.  What that leaves free goes back then (torch/cuda/graphs.py), but
    for gaps in segments that are in use; recorded, it has memory of its own.

    Args:
        ledger: Of a step, and of what was there before.
        start: Move at which the step begins.
    """
    ordinary, own = replay(ledger), CachingAllocator()
    ordinary.release()
    _serve(own, ledger, ledger.moves[start:])
    return max(ordinary.most_reserved, ordinary.reserved + own.most_reserved)


def _serve(allocator: CachingAllocator, ledger: Ledger, moves: list[int]) -> None:
    """Serve moves; what was there before them stays."""
    blocks: dict[int, Block] = {}
    for number in moves:
        if number >= 0:
            blocks[number] = allocator.take(ledger.sizes[number])
        elif -number - 1 in blocks:
            allocator.give_back(blocks.pop(-number - 1))
