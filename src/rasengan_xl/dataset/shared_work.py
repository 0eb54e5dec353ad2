"""Fill a store together: one job at a time, and within a job every process does its part."""

import logging
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rasengan_xl.dataset.store import TensorStore
from rasengan_xl.ranks import Ranks
from rasengan_xl.runs.records import EncodingFacts, StageProgress
from rasengan_xl.whole_file import make_folder, remove_drafts, remove_file

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a list of tasks falls to this process, of those that share a folder."""

    index: int
    count: int

    @property
    def leads(self) -> bool:
        """Whether this process locks, tidies and packs for the others."""
        return self.index == 0


def fill_store(
    store: TensorStore,
    wanted: Iterable[str],
    encode: Callable[[list[str], Part], Iterator[StageProgress]],
    ranks: Ranks,
) -> Generator[StageProgress, None, EncodingFacts]:
    """Have all that is wanted and missing encoded, and open the store.

    Args:
        store: Where entries go.
        wanted: Their keys.
        encode: Writes its part of some missing entries into the store's folder.
        ranks: The processes of this job.
    """
    make_folder(store.folder)
    part = _find_part(store.folder, ranks)
    lock = FileLock(store.folder / ".lock")
    damaged = 0
    try:
        with ranks.together():
            if part.leads:
                yield from _wait_for(lock)
                damaged = _tidy(store)
        store.open()
        asked = list(dict.fromkeys(wanted))
        missing = [key for key in asked if key not in store]
        with ranks.together():
            if missing:
                yield from encode(missing, part)
        if part.leads and missing:
            store.open()
            store.pack()
        ranks.gather(None)  # nobody reads before all is in its place
        store.open()
        damaged_files = sum(ranks.gather(damaged))
    finally:  # not before all have opened it: the next job may pack what they look at
        lock.release()
    return EncodingFacts(asked=len(asked), encoded=len(missing), damaged_files=damaged_files)


def _find_part(folder: Path, ranks: Ranks) -> Part:
    """Find out who shares the folder: all processes of the job, or those of each machine."""
    mark = folder / f".{ranks.gather(uuid.uuid4().hex)[0]}"
    if ranks.is_first:
        mark.touch()
    ranks.gather(None)
    seen_by_all = all(ranks.gather(mark.exists()))
    if ranks.is_first:
        mark.unlink()
    if seen_by_all:
        return Part(ranks.rank, ranks.count)
    return Part(ranks.node_rank, ranks.node_count)


def _wait_for(lock: FileLock) -> Iterator[StageProgress]:
    while True:
        try:
            lock.acquire(timeout=_SECONDS_BETWEEN_LOOKS)
        except Timeout:
            yield StageProgress(stage="wait for another run to encode", done=0, total=1)
        else:
            return


def _tidy(store: TensorStore) -> int:
    """Remove what a killed process left half-written, and count the damaged shards removed."""
    remove_drafts(store.folder)
    damaged = store.open()
    for file in damaged:
        logger.warning("%s: damaged, and removed: what it held is encoded anew", file)
        remove_file(file)
    return len(damaged)
