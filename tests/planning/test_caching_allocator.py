from rasengan_xl.planning.caching_allocator import (
    MIB,
    CachingAllocator,
    most_reserved_recorded,
    replay,
)
from rasengan_xl.planning.ledger import Ledger


def test_small_pieces_share_a_segment_and_large_ones_have_their_own():
    allocator = CachingAllocator()
    for _ in range(4):
        allocator.take(MIB // 2)
    assert (allocator.allocated, allocator.reserved) == (2 * MIB, 2 * MIB)
    allocator.take(4 * MIB)
    assert allocator.reserved == 22 * MIB
    allocator.take(33 * MIB)
    assert allocator.reserved == 56 * MIB


def test_a_rest_that_is_not_worth_it_is_not_split_off():
    allocator = CachingAllocator()
    allocator.take(33 * MIB)  # of a segment of 34
    assert allocator.allocated == 34 * MIB


def test_free_neighbours_become_one_and_serve_a_larger_request():
    allocator = CachingAllocator()
    first, second = allocator.take(8 * MIB), allocator.take(8 * MIB)
    assert allocator.reserved == 20 * MIB
    allocator.give_back(second)
    allocator.give_back(first)
    allocator.take(19 * MIB)
    assert allocator.reserved == 20 * MIB


def test_the_smallest_block_that_is_large_enough_is_taken():
    allocator = CachingAllocator()
    large, _, small = allocator.take(64 * MIB), allocator.take(MIB), allocator.take(32 * MIB)
    allocator.give_back(large)
    allocator.give_back(small)
    assert allocator.take(32 * MIB) is small


def test_a_ledger_is_served_in_order():
    ledger = Ledger()
    for _ in range(3):  # the same 10 MiB again and again
        ledger.give_back(ledger.take(10 * MIB, "mm"))
    served = replay(ledger)
    assert (served.most_allocated, served.most_reserved) == (10 * MIB, 10 * MIB)
    assert served.allocated == 0


def test_what_is_recorded_has_memory_of_its_own_beside_what_cannot_be_given_back():
    ledger = Ledger()
    kept, passing = ledger.take(12 * MIB, "weights"), ledger.take(64 * MIB, "loading")
    ledger.give_back(passing)
    start = len(ledger.moves)
    ledger.take(32 * MIB, "kept in what loading left, of which nothing goes back")
    ledger.give_back(ledger.take(100 * MIB, "mm"))
    # Computed at first: 12 + 64 + 100 MiB; recorded: 12 + 64 stay, and 32 + 100 are new.
    assert replay(ledger).most_reserved == 176 * MIB
    assert most_reserved_recorded(ledger, start) == (12 + 64 + 32 + 100) * MIB
    ledger.give_back(kept)


def test_of_free_blocks_of_one_size_the_first_is_taken():
    allocator = CachingAllocator()
    blocks = [allocator.take(16 * MIB) for _ in range(20)]
    for block in reversed(blocks):
        allocator.give_back(block)
    assert [allocator.take(16 * MIB) for _ in range(20)] == blocks
