"""Carry out many jobs at once, one in each slot of a place, and tell of all in one stream."""

import queue
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rasengan_xl.comparison.orders import Order, Train
from rasengan_xl.comparison.places import Place, Progress
from rasengan_xl.comparison.process import WorkerFailedError
from rasengan_xl.comparison.stopping import Stop

_ATTEMPTS = 2
"""A worker that is lost once may have had bad luck; twice, there is a reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An order with a name to tell of it by."""

    name: str
    order: Order
    log: Path | None = None
    """Where to keep what the worker's libraries said, if it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """What one job is doing."""

    job: str
    record: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRetried:
    """The worker of a job was lost, and another takes its place."""

    job: str
    reason: str
    """How it was lost, in one line."""
    resumed: bool
    """Whether the other goes on where the first stood; else it begins anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnded:
    """A job came to its end."""

    job: str
    attempts: int
    seconds: float
    """Of the last attempt, from the start of its worker."""
    reason: str | None = None
    """Why it failed, in one line; None when it did not."""
    by_user: bool = False
    """Whether the user can mend it: the reason then names what and how."""
    lost: bool = False
    """Whether something outside ended its worker, each time."""


JobEvent = JobProgress | JobRetried | JobEnded


def carry_out_jobs(jobs: Sequence[Job], place: Place) -> Generator[JobEvent]:
    """Carry out jobs in order, as many at once as the place has slots, yielding what happens.

    A job that fails does not stop the others; one whose worker is lost is tried a second time.
    Closing the iterator stops every worker, with time to save; a second Ctrl-C meanwhile ends them.
    """
    if not jobs:
        return
    events: queue.SimpleQueue[JobEvent | Future[None]] = queue.SimpleQueue()
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    stop = Stop()

    def work(slot: int) -> None:
        for job in _take(waiting, stop):
            for event in _attempt(job, place, slot, stop):
                events.put(event)

    slots = min(place.slots, len(jobs))
    with ThreadPoolExecutor(slots, thread_name_prefix="slot") as pool:
        threads: list[Future[None]] = []
        try:
            for slot in range(slots):
                threads.append(pool.submit(work, slot))
                threads[-1].add_done_callback(events.put)
            yield from _merge(events, len(jobs))
        finally:
            _end(threads, stop)


def _merge(events: "queue.SimpleQueue[JobEvent | Future[None]]", jobs: int) -> Iterator[JobEvent]:
    """Pass events on until all jobs have ended; a signal breaks off the waiting."""
    ended = 0
    while ended < jobs:
        event = events.get()
        if isinstance(event, Future):
            event.result()  # raises what was a fault of our own in that thread
            continue
        ended += isinstance(event, JobEnded)
        yield event


def _end(threads: list[Future[None]], stop: Stop) -> None:
    """Return once no thread works any more, nor the worker that it waited for."""
    try:
        stop.ask()
        wait(threads)  # not `Thread.join`: one that a signal broke off takes a thread for ended
    finally:  # a second Ctrl-C breaks off the waiting
        stop.hurry()
        wait(threads)


def _take(waiting: "queue.SimpleQueue[Job]", stop: Stop) -> Iterator[Job]:
    while not stop.asked.is_set():
        try:
            yield waiting.get_nowait()
        except queue.Empty:
            return


def _attempt(job: Job, place: Place, slot: int, stop: Stop) -> Iterator[JobEvent]:
    """Try a job until it ends by itself, or has been lost too often."""
    order = job.order
    for attempt in range(1, _ATTEMPTS + 1):
        started = time.monotonic()
        try:
            with closing(place.carry_out(order, slot, job.log, stop)) as records:
                for record in records:
                    yield JobProgress(job=job.name, record=record)
        except WorkerFailedError as failure:
            if stop.asked.is_set():
                return
            if not failure.lost or attempt == _ATTEMPTS:
                yield _failed(job, attempt, time.monotonic() - started, failure)
                return
            order = order.after_loss()
            resumed = isinstance(order, Train) and order.resume
            yield JobRetried(job=job.name, reason=str(failure), resumed=resumed)
        else:
            seconds = time.monotonic() - started
            yield JobEnded(job=job.name, attempts=attempt, seconds=seconds)
            return


def _failed(job: Job, attempts: int, seconds: float, failure: WorkerFailedError) -> JobEnded:
    return JobEnded(
        job=job.name,
        attempts=attempts,
        seconds=seconds,
        reason=str(failure),
        by_user=failure.by_user,
        lost=failure.lost,
    )
