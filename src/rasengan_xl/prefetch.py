"""Do the next pieces of work in threads while the present one is being used."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 2


def prefetch(
    work: Callable[[Item], Result], items: Iterable[Item], *, ahead: int, threads: int = THREADS
) -> Generator[Result]:
    """Yield the result for every item, in order; an error is raised where its item would come.

    Args:
        work: What to do with an item; runs in a thread.
        items: Taken one by one, as results are asked for.
        ahead: How many results may wait.
        threads: How many work at once.
    """
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
