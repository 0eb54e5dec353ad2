"""Files that are seen whole or not at all, whatever is pulled: the plug, the disk, the process."""

import errno
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from rasengan_xl.errors import DamagedFileError, UnwritableError

DRAFT_SUFFIX = ".part"
_REMEDIES = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free space within your quota there",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.ENOENT: "put its folder back",
    errno.ENOTDIR: "put its folder back",
    errno.EEXIST: "remove what lies in its place",
    errno.ENOTEMPTY: "remove what lies in its place",
    errno.EISDIR: "remove what lies in its place",
}
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP}
"""What file systems answer that have no fsync, some network and FUSE ones."""


def write_whole(file: Path, text: str) -> None:
    """Write a text, closed by a line break, in the place of what the file held.

    Raises:
        UnwritableError: It cannot be; the file is as it was.
    """
    ended = text if text.endswith("\n") or not text else f"{text}\n"
    write_bytes_whole(file, ended.encode())


def write_bytes_whole(file: Path, *parts: bytes | memoryview) -> None:
    """Write a draft, bring it to the disk, then give it the file's name.

    Raises:
        UnwritableError: It cannot be; the file is as it was, and the draft is gone.
    """
    with drafted_file(file) as draft:
        draft.writelines(parts)


@contextmanager
def drafted_file(file: Path) -> Generator[IO[bytes]]:
    """Open a draft that is brought to the disk and gets the file's name when the block ends.

    Raises:
        UnwritableError: It cannot be written. After this and any other error in the block, the
            file is as it was, and the draft is gone.
    """
    with _explaining(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = _draft_of(file)
        try:
            with draft.open("wb") as written:
                yield written
                _sync(written)
            draft.replace(file)
        finally:
            with suppress(OSError):  # nothing is there once it has the file's name
                draft.unlink(missing_ok=True)
        _sync_folder(file.parent)


@contextmanager
def drafted_folder(folder: Path) -> Generator[Path]:
    """Make an empty draft of a folder, which gets the folder's name when the block ends.

    Raises:
        UnwritableError: It cannot be made, or something has the folder's name. After this and any
            other error in the block, the draft is gone with all that is in it.
    """
    with _explaining(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = _draft_of(folder)
        draft.mkdir()
        try:
            yield draft
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)  # gone already once it has the name
        _sync_folder(folder.parent)


def append_line(file: Path, line: str) -> None:
    """Add a line; what a crash left of an unfinished one is dropped first.

    Raises:
        UnwritableError: It cannot be; at most an unfinished line was added.
    """
    with _explaining(file), file.open("ab+") as log:
        _drop_unfinished_line(log)
        log.write(f"{line}\n".encode())


def read_lines(file: Path) -> list[str]:
    """Read the finished lines of a log; none if there is no file.

    Raises:
        DamagedFileError: It is not text.
    """
    if not file.exists():
        return []
    content = file.read_bytes()
    try:
        return content[: content.rfind(b"\n") + 1].decode().splitlines()
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{file}: is not text; restore it, or start anew") from error


def bring_to_disk(file: Path) -> None:
    """Return once a log is on the disk, safe from a loss of power."""
    if file.exists():
        with _explaining(file), file.open("ab") as log:
            _sync(log)
            _sync_folder(file.parent)


def make_folder(folder: Path) -> None:
    """Make a folder of ours, if it is not there.

    Raises:
        UnwritableError: It cannot be made.
    """
    with _explaining(folder):
        folder.mkdir(parents=True, exist_ok=True)


def remove_file(file: Path) -> None:
    """Remove a file of ours, if it is there."""
    with _explaining(file):
        file.unlink(missing_ok=True)


def remove_drafts(folder: Path) -> None:
    """Remove what processes that were killed while writing have left in a folder of ours."""
    for draft in folder.glob(f"*{DRAFT_SUFFIX}"):
        remove_file(draft)


def _draft_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}{DRAFT_SUFFIX}")


def _drop_unfinished_line(log: IO[bytes]) -> None:
    size = log.seek(0, os.SEEK_END)
    if size == 0:
        return
    log.seek(size - 1)
    if log.read(1) == b"\n":
        return
    log.seek(0)
    log.truncate(log.read().rfind(b"\n") + 1)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    _sync_descriptor(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk; a rename alone is only in memory."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def _sync_descriptor(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


@contextmanager
def _explaining(file: Path) -> Generator[None]:
    """Say in one line which file could not be written, why, and what to do."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "check the disk")
        raise UnwritableError(
            f"{file}: cannot be written: {error.strerror or error}; {remedy}"
        ) from error
