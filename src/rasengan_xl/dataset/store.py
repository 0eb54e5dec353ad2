"""Encoded pictures and captions on disk: many small groups of tensors in few large files.

A store is a folder of shards.  A shard is a safetensors file whose header carries the checksum of
every entry in it.  Shards are written whole and never changed; they may come from any number of
processes, since their names follow from what they hold.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from safetensors import SafetensorError
from torch import Tensor

from rasengan_xl.errors import DatasetError
from rasengan_xl.tensor_file import TensorFile, digest_tensors, write_tensors

SMALLEST_SHARD_BYTES = 256 * 2**20
FULL_SHARD_BYTES = 384 * 2**20
"""A shard is closed when it has reached this; with one more entry it stays below 512 MiB."""
MOST_SMALL_SHARDS = 4
"""More than this many are packed into few."""
SECONDS_BETWEEN_SHARDS = 30.0
"""What a crash can cost: a shard is also closed after this time."""
_CHECKSUMS = "checksums"

Entry = Mapping[str, Tensor]


@runtime_checkable
class Shelf(Protocol):
    """Where entries can be read from, by key."""

    def read(self, key: str) -> Entry:
        """Return the tensors of an entry."""
        ...


class TensorStore:
    """Entries of a folder of shards, mapped into memory and verified when they are first read."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """Describe a store; `open` looks what is there.

        Args:
            folder: Of the shards.
            names: Of the tensors that every entry has.
        """
        self.folder = folder
        self._names = names
        self._shard_of: dict[str, TensorFile] = {}
        self._unverified: dict[str, str] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._shard_of

    def open(self) -> list[Path]:
        """Take in every shard that is there now.

        Returns:
            Shards that are damaged or half-written.

        Raises:
            DatasetError: A shard that may be sound cannot be opened.
        """
        self._shard_of.clear()
        unreadable: list[Path] = []
        for file in _shards(self.folder):
            try:
                shard = TensorFile(file)
                checksums: dict[str, str] = json.loads(shard.header[_CHECKSUMS])
            except (SafetensorError, KeyError, ValueError):
                unreadable.append(file)
                continue
            except OSError as fault:
                if file.stat().st_size == 0:
                    unreadable.append(file)
                    continue
                # It may be sound: not to be taken for damage, which is removed.
                raise DatasetError(
                    f"{file}: encoded data cannot be opened ({fault.strerror or fault}): allow "
                    "reading it, or name another folder with RASENGAN_CACHE"
                ) from fault
            self._shard_of.update(dict.fromkeys(checksums, shard))
            self._unverified.update(checksums)
        return unreadable

    def read(self, key: str) -> Entry:
        """Return the tensors of an entry; they are views of the mapped file.

        Raises:
            DatasetError: The entry is not what was written.
        """
        shard = self._shard_of[key]
        entry = {name: shard.read(f"{key}/{name}") for name in self._names}
        expected = self._unverified.pop(key, None)
        if expected is not None and expected != digest_tensors(entry):
            raise DatasetError(
                f"{shard.path}: this file of encoded data is damaged: delete it, and what it "
                "held is encoded anew"
            )
        return entry

    def pack(self) -> None:
        """Write small shards together; to be called while nobody else writes."""
        small = {s for s in _shards(self.folder) if s.stat().st_size < SMALLEST_SHARD_BYTES}
        if len(small) <= MOST_SMALL_SHARDS:
            return
        writer = ShardWriter(self.folder, seconds_between_shards=float("inf"))
        for key, shard in sorted(self._shard_of.items()):
            if shard.path in small:
                writer.add(key, self.read(key))
        writer.close()
        for file in small - writer.written:
            file.unlink()
        self.open()


class ShardWriter:
    """Collects entries and writes them as shards, each whole or not at all."""

    def __init__(
        self,
        folder: Path,
        *,
        seconds_between_shards: float = SECONDS_BETWEEN_SHARDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.written: set[Path] = set()
        self._folder = folder
        self._patience = seconds_between_shards
        self._clock = clock
        self._begin()

    def add(self, key: str, entry: Entry) -> None:
        """Take an entry; it is on disk at the latest after `close`."""
        self._entries[key] = entry
        self._bytes += sum(tensor.nbytes for tensor in entry.values())
        late = self._clock() - self._begun > self._patience
        if self._bytes >= FULL_SHARD_BYTES or late:
            self.close()

    def close(self) -> None:
        """Write what was collected."""
        if not self._entries:
            return
        checksums = {key: digest_tensors(entry) for key, entry in self._entries.items()}
        name = hashlib.sha256(json.dumps(checksums, sort_keys=True).encode()).hexdigest()[:32]
        file = self._folder / f"{name}.safetensors"
        tensors = {
            f"{key}/{name}": tensor
            for key, entry in self._entries.items()
            for name, tensor in entry.items()
        }
        write_tensors(file, tensors, {_CHECKSUMS: json.dumps(checksums)})
        self.written.add(file)
        self._begin()

    def _begin(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._bytes = 0
        self._begun = self._clock()


def content_key(*parts: object) -> str:
    """Return a name that changes when any of the parts does."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:32]


def _shards(folder: Path) -> Iterable[Path]:
    return sorted(folder.glob("*.safetensors"))
