"""Tensors on disk: safetensors files, written whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

_library: Any = safetensors.torch  # its functions carry no full types
_open_file: Any = safetensors.safe_open

UNREADABLE = (OSError, safetensors.SafetensorError)
"""What reading a missing or damaged file raises."""


def write_tensors(
    file: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None
) -> None:
    """Write named tensors and a header of texts."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}.part")
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _library.save_file(kept, draft, metadata={"format": "pt", **(header or {})})
    draft.replace(file)


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

    def read(self, name: str) -> Tensor:
        """Return a tensor without copying it."""
        return self._content.get_tensor(name)
