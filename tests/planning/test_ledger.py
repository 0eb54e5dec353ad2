from rasengan_xl.planning.ledger import Ledger, as_block, find_peak


def test_sizes_are_rounded_up_to_what_the_allocator_gives_out():
    assert [as_block(size) for size in (0, 1, 512, 513)] == [0, 512, 512, 1024]


def test_the_peak_is_where_most_lives_and_says_what_it_is_for():
    ledger = Ledger()
    weights = ledger.take(1024, "weights")
    ledger.mark("forward")
    kept = ledger.take(2048, "mm")
    passing = ledger.take(512, "gelu")
    ledger.give_back(passing)
    ledger.mark("backward")
    ledger.take(4096, "mm")
    ledger.give_back(kept)
    assert ledger.levels() == [1024, 3072, 3584, 3072, 7168, 5120]
    peak = find_peak(ledger, {weights: "base weights"}, "backward")
    assert (peak.total, peak.phase) == (7168, "backward")
    assert peak.kinds == {"workspace": 4096, "activations": 2048, "base weights": 1024}
    assert peak.origins == {"mm": 6144}


def test_what_was_before_a_pass_is_no_peak_of_it():
    ledger = Ledger()
    ledger.give_back(ledger.take(8192, "loading"))
    start = len(ledger.moves)
    ledger.mark("forward")
    ledger.take(512, "mm")
    assert find_peak(ledger, {}, None, start).total == 512
