import os
import signal
import threading

import pytest

from rasengan_xl.training.interruption import Stopped, stop_on_interrupt


def numbers(log):
    """Count, and note being closed."""
    try:
        for number in range(5):
            log.append(number)
            yield number
    finally:
        log.append("closed")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_work_between_two_records(number, status):
    log, seen = [], []
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def watch():
        for item in stop_on_interrupt(numbers(log)):
            seen.append(item)
            if item == 2:
                os.kill(os.getpid(), number)

    with pytest.raises(Stopped) as caught:
        watch()
    assert caught.value.status == status
    assert isinstance(caught.value, KeyboardInterrupt)
    assert (seen, log) == ([0, 1, 2], [0, 1, 2, "closed"])
    assert {n: signal.getsignal(n) for n in before} == before


def test_a_second_ctrl_c_stops_at_once():
    log = []

    def work():
        try:
            yield 1
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            log.append("not reached")
        finally:
            log.append("closed")

    with pytest.raises(KeyboardInterrupt) as caught:
        list(stop_on_interrupt(work()))
    assert not isinstance(caught.value, Stopped)
    assert log == ["closed"]


def test_after_the_first_signal_sigterm_kills():
    def work():
        os.kill(os.getpid(), signal.SIGTERM)
        yield signal.getsignal(signal.SIGTERM)
        raise AssertionError

    kept = []

    def watched():
        for handler in work():
            kept.append(handler)
            yield handler

    with pytest.raises(Stopped):
        list(stop_on_interrupt(watched()))
    assert kept == [signal.SIG_DFL]


def test_without_a_signal_everything_is_passed_on_and_work_that_is_left_is_closed():
    log = []
    assert list(stop_on_interrupt(numbers(log))) == [0, 1, 2, 3, 4]
    log.clear()
    left = stop_on_interrupt(numbers(log))
    next(left)
    left.close()
    assert log == [0, "closed"]


def test_outside_the_main_thread_records_are_passed_on():
    seen = []
    thread = threading.Thread(target=lambda: seen.extend(stop_on_interrupt(numbers([]))))
    thread.start()
    thread.join()
    assert seen == [0, 1, 2, 3, 4]
