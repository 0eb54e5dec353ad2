"""From what a reader found to what can be used: every candidate is looked at once, in order."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice

from rasengan_xl.errors import DatasetError
from rasengan_xl.fact_index import FactIndex
from rasengan_xl.file_digests import DIGESTS
from rasengan_xl.prefetch import prefetch
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sources.candidates import Candidate, Fault, Listing
from rasengan_xl.sources.picture_facts import inspect_content, recall_facts
from rasengan_xl.sources.pictures import (
    CaptionedPicture,
    SkippedPicture,
    Source,
    count_reasons,
    hash_bytes,
)

STAGE = "read the dataset"
_CHUNK = 8
_THREADS = min(8, os.cpu_count() or 1)
_CHUNKS_AHEAD = _THREADS + 2
CANDIDATES_AHEAD = _CHUNK * _CHUNKS_AHEAD
"""Most candidates whose pictures are awaited or read at one moment."""

Verdict = CaptionedPicture | SkippedPicture


def scan_pictures(listing: Listing) -> Generator[StageProgress, None, Source]:
    """Look at every candidate, with several threads, and tell the usable from the others.

    A picture that was looked at before, by any process, is known by its file or its bytes and
    not decoded again.

    Raises:
        DatasetError: The dataset is empty, or nothing in it can be used.
    """
    used: list[CaptionedPicture] = []
    skipped: list[SkippedPicture] = []
    yield StageProgress(stage=STAGE, done=0, total=listing.count or 0)
    with FactIndex() as index, ExitStack() as stack:
        work = partial(_judge_all, partial(_judge, index=index))
        chunks = _chunks(listing.candidates)
        judged = prefetch(work, chunks, ahead=_CHUNKS_AHEAD - 1, threads=_THREADS)
        for verdicts in stack.enter_context(closing(judged)):
            for verdict in verdicts:
                if isinstance(verdict, CaptionedPicture):
                    used.append(verdict)
                else:
                    skipped.append(verdict)
            done = len(used) + len(skipped)
            yield StageProgress(stage=STAGE, done=done, total=max(done, listing.count or 0))
    if not used:
        raise _nothing_usable(listing.name, skipped)
    return Source(
        name=listing.name,
        revision=listing.revision,
        pictures=tuple(used),
        skipped=tuple(skipped),
        ignored=listing.ignored,
    )


def _chunks(candidates: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    waiting = iter(candidates)
    while chunk := list(islice(waiting, _CHUNK)):
        yield chunk


def _judge_all(work: Callable[[Candidate], Verdict], chunk: list[Candidate]) -> list[Verdict]:
    return [work(candidate) for candidate in chunk]


def _judge(candidate: Candidate, index: FactIndex) -> Verdict:
    captions = candidate.captions
    if isinstance(captions, Fault):
        return _skip(candidate, captions)
    key = candidate.content_key
    known = index.get(DIGESTS, key) if key else None
    digest = known.hex() if known else ""
    facts = recall_facts(index, digest) if known else None
    if facts is None:
        try:
            content = candidate.read()
        except OSError as fault:
            return _skip(candidate, _unreadable(fault))
        digest = hash_bytes(content)
        if key:
            index.put(DIGESTS, key, bytes.fromhex(digest))
        facts = recall_facts(index, digest)
        facts = facts or inspect_content(content, digest, candidate.name, index)
    if isinstance(facts, Fault):
        return _skip(candidate, facts)
    return CaptionedPicture(
        name=candidate.name,
        captions=captions,
        class_name=candidate.class_name,
        picture_digest=digest,
        width=facts.width,
        height=facts.height,
        animated=facts.animated,
        look=facts.look,
        notes=facts.notes,
        read=partial(_read_the_same, candidate, digest),
    )


def _read_the_same(candidate: Candidate, digest: str) -> bytes:
    """Read a picture again, and refuse another one in its place: it would be kept as this one."""
    content = candidate.read()
    if hash_bytes(content) != digest:
        raise DatasetError(f"{candidate.name}: has changed since it was looked at: start again")
    return content


def _skip(candidate: Candidate, fault: Fault) -> SkippedPicture:
    return SkippedPicture(name=candidate.name, reason=fault.reason, detail=fault.detail)


def _unreadable(fault: OSError) -> Fault:
    words = fault.strerror or " ".join(str(fault).split()) or type(fault).__name__
    return Fault(
        "unreadable file", f"cannot be read ({words}): put it in order, allow reading, or remove it"
    )


def _nothing_usable(name: str, skipped: list[SkippedPicture]) -> DatasetError:
    if not skipped:
        return DatasetError(f"{name}: the dataset is empty: name one that holds pictures")
    counts = ", ".join(f"{count} {reason}" for reason, count in count_reasons(skipped).items())
    return DatasetError(
        f"{name}: not one of {len(skipped)} pictures can be used ({counts}): "
        f"mend them or name another dataset; the first, {skipped[0].name}: {skipped[0].detail}"
    )
