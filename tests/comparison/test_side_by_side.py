import os
import signal
import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest

from rasengan_xl.comparison.orders import encode_error, encode_progress
from rasengan_xl.comparison.places import ThisMachine
from rasengan_xl.comparison.side_by_side import (
    Job,
    JobEnded,
    JobProgress,
    JobRetried,
    carry_out_jobs,
)
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.training.interruption import Stopped, stopping_at_once

STAGE = StageProgress(stage="encode", done=1, total=2)
SAY = f"echo '{encode_progress(STAGE)}'"


@pytest.fixture
def jobs(train, tmp_path):
    def build(*names):
        return [Job(name=name, order=train(name), log=tmp_path / f"{name}.log") for name in names]

    return build


def place(slots):
    return ThisMachine(jobs=slots, device="cpu")


def end(job, attempts=1, **facts):
    return JobEnded(job=job, attempts=attempts, seconds=0.0, **facts)


def timeless(event):
    """Leave out how long a job took."""
    return replace(event, seconds=0.0) if isinstance(event, JobEnded) else event


def ends(events):
    return {event.job: timeless(event) for event in events if isinstance(event, JobEnded)}


def workers(tmp_path, count):
    """Wait for the process numbers that so many workers have noted."""
    deadline = time.monotonic() + 10
    while len(notes := list(tmp_path.glob("*.pid"))) < count or not all(
        note.read_text().endswith("\n") for note in notes
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(note.read_text()) for note in notes]


def nothing_is_left(pids):
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    return not any(thread.name.startswith("slot") for thread in threading.enumerate())


def test_what_each_job_does_is_told_under_its_name(stand_in, jobs):
    stand_in(SAY)
    events = list(carry_out_jobs(jobs("a", "b", "c"), place(2)))
    progress = [event for event in events if isinstance(event, JobProgress)]
    assert sorted(event.job for event in progress) == ["a", "b", "c"]
    assert {event.record for event in progress} == {STAGE}
    assert ends(events) == {name: end(name) for name in "abc"}


def test_no_jobs_are_done_at_once():
    assert list(carry_out_jobs([], place(2))) == []


def test_two_jobs_go_on_at_once(stand_in, jobs, tmp_path):
    # Each waits for the other to have begun.
    stand_in(
        f"touch {tmp_path}/$run.on; while [ $(ls {tmp_path}/*.on | wc -l) -lt 2 ]; "
        "do sleep 0.02; done"
    )
    assert len(ends(carry_out_jobs(jobs("a", "b"), place(2)))) == 2


def test_one_slot_takes_jobs_in_their_order_and_one_at_a_time(stand_in, jobs, tmp_path):
    stand_in(f"echo +$run >>{tmp_path}/order; sleep 0.05; echo -$run >>{tmp_path}/order")
    list(carry_out_jobs(jobs("b", "a", "c"), place(1)))
    assert (tmp_path / "order").read_text().split() == ["+b", "-b", "+a", "-a", "+c", "-c"]


def test_a_mistake_of_the_users_is_not_retried_and_the_others_go_on(stand_in, jobs):
    stand_in(f"[ $run = b ] || exit 0; echo '{encode_error('b.toml: mend it')}'; exit 2")
    events = list(carry_out_jobs(jobs("a", "b", "c"), place(2)))
    assert ends(events)["b"] == end("b", reason="b.toml: mend it", by_user=True)
    assert ends(events)["a"].reason is None
    assert ends(events)["c"].reason is None


def test_a_crash_is_not_retried(stand_in, jobs, tmp_path):
    stand_in(f"echo x >>{tmp_path}/tries; echo 'ValueError: bad' >&2; exit 1")
    events = list(carry_out_jobs(jobs("a"), place(1)))
    assert [timeless(event) for event in events] == [end("a", reason="ValueError: bad")]
    assert (tmp_path / "tries").read_text() == "x\n"


def test_a_lost_worker_is_replaced_once_and_that_is_told(stand_in, jobs, tmp_path):
    stand_in(f"[ -e {tmp_path}/tried ] && exit 0; touch {tmp_path}/tried; {SAY}; kill -9 $$")
    events = list(carry_out_jobs(jobs("a"), place(1)))
    progress, retried, ended = events
    assert isinstance(progress, JobProgress)
    assert isinstance(retried, JobRetried)
    assert "signal 9" in retried.reason
    assert not retried.resumed
    assert timeless(ended) == end("a", 2)


@pytest.mark.parametrize("death", ["kill -9 $$", "kill -SEGV $$", "exit 143"])
def test_a_worker_that_is_lost_twice_is_reported_and_the_others_finish(stand_in, jobs, death):
    stand_in(f"[ $run = b ] || exit 0; {death}")
    events = list(carry_out_jobs(jobs("a", "b", "c"), place(2)))
    ended = ends(events)
    assert ended["b"].attempts == 2
    assert ended["b"].lost
    assert not ended["b"].by_user
    assert "signal" in ended["b"].reason
    assert sum(isinstance(event, JobRetried) for event in events) == 1
    assert ended["a"].reason is None
    assert ended["c"].reason is None


def test_a_run_that_was_begun_is_continued(stand_in, jobs, tmp_path):
    # The stand-in reads no more than the run's name, so it is asked through a wrapper of `sed`.
    file = tmp_path / "worker"
    stand_in("")
    file.write_text(
        f"#!/bin/sh\ncat >>{tmp_path}/orders; echo >>{tmp_path}/orders\n"
        f"[ -e {tmp_path}/a/settings.json ] && exit 0\n"
        f"mkdir {tmp_path}/a; touch {tmp_path}/a/settings.json; kill -9 $$\n"
    )
    (retried, ended) = carry_out_jobs(jobs("a"), place(1))
    assert retried.resumed
    assert timeless(ended) == end("a", 2)
    first, second = (tmp_path / "orders").read_text().splitlines()
    assert '"resume":false' in first
    assert '"resume":true' in second


def test_closing_stops_every_worker_with_time_to_save(stand_in, jobs, tmp_path):
    stand_in(
        f"trap 'touch {tmp_path}/$run.saved; exit 130' INT; echo $$ >{tmp_path}/$run.pid; {SAY}\n"
        "while :; do sleep 0.05; done"
    )
    events = carry_out_jobs(jobs("a", "b", "c"), place(2))
    next(events)
    pids = workers(tmp_path, 2)
    events.close()
    assert nothing_is_left(pids)
    assert sorted(file.name for file in tmp_path.glob("*.saved")) == ["a.saved", "b.saved"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_nothing_is_said_stops_all_at_once(stand_in, jobs, tmp_path, number):
    stand_in(f"echo $$ >{tmp_path}/$run.pid; {SAY}; exec sleep 60")

    def follow():
        with stopping_at_once(), closing(carry_out_jobs(jobs("a", "b"), place(2))) as events:
            next(events)
            workers(tmp_path, 2)
            threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
            list(events)

    begun = time.monotonic()
    with pytest.raises(Stopped) as caught:
        follow()
    assert caught.value.status == 128 + number
    assert time.monotonic() - begun < 10
    assert nothing_is_left(workers(tmp_path, 2))


def test_a_second_ctrl_c_ends_workers_that_do_not_stop(stand_in, jobs, tmp_path):
    stand_in(f"trap '' INT; echo $$ >{tmp_path}/$run.pid; {SAY}; while :; do sleep 0.1; done")
    events = carry_out_jobs(jobs("a", "b"), place(2))
    next(events)
    pids = workers(tmp_path, 2)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        events.close()
    assert time.monotonic() - begun < 5
    assert nothing_is_left(pids)


def test_a_fault_of_our_own_in_a_thread_is_raised_where_it_is_seen(jobs):
    class Broken:
        slots = 1

        def carry_out(self, order, slot, log, stop):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(carry_out_jobs(jobs("a"), Broken()))
    assert nothing_is_left([])
