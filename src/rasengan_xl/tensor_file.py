"""Tensors on disk: safetensors files, written whole or not at all."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from rasengan_xl.whole_file import write_bytes_whole

_library: Any = safetensors.torch  # its functions carry no full types
_open_file: Any = safetensors.safe_open

_SIZE_BYTES, _ALIGNMENT, _TEXTS = 8, 8, "__metadata__"  # huggingface.co/docs/safetensors: format
UNREADABLE = (OSError, safetensors.SafetensorError)
"""What reading a missing or damaged file raises."""


def write_tensors(
    file: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None
) -> None:
    """Write named tensors and a header of texts; the same ones give the same bytes.

    The library's own way to a file neither waits for the disk nor tells why it failed.

    Raises:
        UnwritableError: It cannot be written; the file is as it was.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content: bytes = _library.save(kept, metadata={"format": "pt", **(header or {})})
    end = _SIZE_BYTES + int.from_bytes(content[:_SIZE_BYTES], "little")
    described = _in_order(content[_SIZE_BYTES:end])
    size = len(described).to_bytes(_SIZE_BYTES, "little")
    write_bytes_whole(file, size, described, memoryview(content)[end:])


def _in_order(description: bytes) -> bytes:
    """Sort the texts of a file's header, which the library leaves in a random order."""
    described: dict[str, Any] = json.loads(description)
    described[_TEXTS] = dict(sorted(described[_TEXTS].items()))
    sorted_ = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    return sorted_ + b" " * (-len(sorted_) % _ALIGNMENT)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read every tensor."""
    return _library.load_file(file)


def read_header(file: Path) -> dict[str, str]:
    """Read the header without the tensors."""
    with _open_file(file, framework="pt") as content:
        return content.metadata() or {}


def tensor_names(file: Path) -> list[str]:
    """List the names without reading the tensors."""
    with _open_file(file, framework="pt") as content:
        return list(content.keys())


class TensorFile:
    """A file whose tensors are read one by one, as views of the file mapped into memory."""

    def __init__(self, path: Path) -> None:
        """Map a file; what is missing or damaged raises one of `UNREADABLE`."""
        self.path = path
        self._content = _open_file(path, framework="pt")
        self.header: dict[str, str] = self._content.metadata() or {}
        self.names: list[str] = list(self._content.keys())

    def read(self, name: str) -> Tensor:
        """Return a tensor without copying it."""
        return self._content.get_tensor(name)


def digest_tensors(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Return a SHA-256 over names, types, shapes and every byte, and over a text besides."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content: Any = tensor.reshape(-1).view(torch.uint8).numpy()
        digest.update(content)
    return digest.hexdigest()
