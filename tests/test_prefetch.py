import threading

import pytest

from rasengan_xl.prefetch import prefetch


def test_results_come_in_order():
    def work(item):
        if item == 0:
            started.wait(timeout=10)  # the first is the last to be ready
        else:
            started.set()
        return item * item

    started = threading.Event()
    assert list(prefetch(work, range(20), ahead=4)) == [item * item for item in range(20)]


def test_no_more_is_begun_than_may_wait():
    begun = []
    results = prefetch(begun.append, range(100), ahead=3)
    next(results)
    assert len(begun) <= 4
    results.close()
    assert len(begun) <= 4


def test_an_error_is_raised_where_its_item_would_come():
    def work(item):
        if item == 2:
            raise ValueError("two")
        return item

    results = prefetch(work, range(5), ahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
