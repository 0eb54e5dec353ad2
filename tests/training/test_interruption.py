import os
import signal
import threading
from dataclasses import replace

import pytest

from rasengan_xl.ranks import Ranks
from rasengan_xl.runs.records import StepRecord
from rasengan_xl.training.interruption import Stopped, stop_on_interrupt

STEP = StepRecord(
    step=1,
    loss=0.5,
    gradient_norm=1.0,
    learning_rate=1e-4,
    seconds=0.1,
    idle_seconds=0.0,
    peak_memory_gib=1.0,
)


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


def test_a_signal_that_comes_while_processes_talk_stops_them_after_the_next_step(monkeypatch):
    log, told = [], []

    def gather(_, value):
        told.append(value)
        if len(told) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return [value, []]

    def steps():
        for number in numbers(log):
            yield replace(STEP, step=number + 1)

    monkeypatch.setattr(Ranks, "gather", gather)
    with pytest.raises(Stopped):
        list(stop_on_interrupt(steps(), Ranks(count=2)))
    assert told == [[], [signal.SIGTERM]], "the other one learns of it before any stops"
    assert log == [0, 1, "closed"]


def test_outside_the_main_thread_records_are_passed_on():
    seen = []
    thread = threading.Thread(target=lambda: seen.extend(stop_on_interrupt(numbers([]))))
    thread.start()
    thread.join()
    assert seen == [0, 1, 2, 3, 4]
