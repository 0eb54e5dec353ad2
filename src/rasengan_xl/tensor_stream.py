"""Safetensors files larger than memory, written tensor by tensor, whole or not at all."""

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from rasengan_xl.errors import UnwritableError
from rasengan_xl.whole_file import drafted_file

HASH_KEY = "modelspec.hash_sha256"
"""The header's entry for a hash of all tensors (github.com/Stability-AI/ModelSpec)."""

_SIZE_BYTES, _ALIGNMENT = 8, 8  # huggingface.co/docs/safetensors: format
_NO_HASH = f"0x{0:064x}"
TYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
}
"""What the format calls the types that models are stored in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTensor:
    """A tensor that will be written."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Its size."""
        return prod(self.shape) * self.dtype.itemsize


def stream_tensors(
    file: Path,
    planned: Collection[PlannedTensor],
    make: Callable[[str], Tensor],
    header: Mapping[str, str],
) -> Generator[str]:
    """Write tensors one after another, and yield the name of each once it is written.

    Args:
        file: Where to; it is there once the iterator has ended.
        planned: What will be written.
        make: Makes the tensor of a name; each is asked for once, and dropped before the next.
        header: Texts for the file's header. Under `HASH_KEY`, the hash is filled in at last.

    Raises:
        UnwritableError: It cannot be written. After this and any other error, and when the
            iterator is closed early, nothing is left.
    """
    # As the library does: by size of element, so that each tensor lies at a multiple of its own.
    ordered = sorted(planned, key=lambda tensor: (-tensor.dtype.itemsize, tensor.name))
    described = _describe(ordered, header)
    refuse_full_disk(file, len(described) + sum(tensor.nbytes for tensor in ordered))
    digest = hashlib.sha256()
    with drafted_file(file) as draft:
        draft.write(described)
        for tensor in ordered:
            content = _bytes_of(tensor, make(tensor.name))
            draft.write(content)
            if HASH_KEY in header:
                digest.update(content)
            del content  # frees the tensor before the next is made
            yield tensor.name
        if HASH_KEY in header:
            _fill_in_hash(draft, described, digest.hexdigest())


def refuse_full_disk(file: Path, needed: int) -> None:
    """Say at once what would fail after minutes; a disk that does not tell is tried.

    Args:
        file: What will be written.
        needed: Bytes.

    Raises:
        UnwritableError: Its disk has fewer.
    """
    place = next(parent for parent in file.absolute().parents if parent.exists())
    disk = shutil.disk_usage(place)
    if disk.total and disk.free < needed:
        raise UnwritableError(
            f"{file}: needs {needed / 1e9:.1f} GB, and {disk.free / 1e9:.1f} GB are free there; "
            "free space on that disk"
        )


def _describe(ordered: Collection[PlannedTensor], header: Mapping[str, str]) -> bytes:
    texts = {"format": "pt", **header, **({HASH_KEY: _NO_HASH} if HASH_KEY in header else {})}
    description: dict[str, Any] = {"__metadata__": dict(sorted(texts.items()))}
    begin = 0
    for tensor in ordered:
        end = begin + tensor.nbytes
        description[tensor.name] = {
            "dtype": TYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    content = json.dumps(description, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % _ALIGNMENT)
    return len(content).to_bytes(_SIZE_BYTES, "little") + content


def _bytes_of(planned: PlannedTensor, made: Tensor) -> memoryview:
    """Return the memory of a tensor that is as it was planned."""
    assert tuple(made.shape) == planned.shape, planned.name
    assert made.dtype == planned.dtype, planned.name
    content: Any = made.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(content)


def _fill_in_hash(draft: IO[bytes], described: bytes, digest: str) -> None:
    """Put the hash in the place that the header keeps for it."""
    draft.seek(
        described.index(f'"{HASH_KEY}":"{_NO_HASH}"'.encode()) + len(HASH_KEY) + len('"":"0x')
    )
    draft.write(digest.encode())
