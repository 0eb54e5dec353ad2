"""The description at the start of a safetensors file, checked before anything else is read.

The form is that of huggingface.co/docs/safetensors: eight bytes that hold its length, JSON, and
the tensors without gaps.  The library checks much of it, too, but tells less, and only later.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO, cast

from rasengan_xl.adapters.reading.faults import fault, shown

LONGEST_HEADER_BYTES = 25 * 2**20
"""Hundred times that of an SDXL adapter with everything; the library's own limit is 100 MB."""
MOST_TENSORS = 50_000
"""An adapter with ten tensors for each of SDXL's 1,059 layers has 10,590."""
LONGEST_NAME = 300
MOST_AXES = 8

_SIZE_BYTES = 8
_TEXTS = "__metadata__"
_TYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_FOREIGN_BEGINNINGS = {
    b"PK\x03\x04": "a zip archive, such as torch.save writes, which can hold programs",
    b"PK\x05\x06": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"GGUF": "a GGUF file",
    b"\x89PNG": "a picture",
    b"\x89HDF": "an HDF5 file",
    b"version https://git": "only a pointer to the file (git LFS)",
    b"<": "a web page",
    b"{": "a JSON text",
}
_PICKLE = b"\x80"
_PICKLE_PROTOCOLS = range(1, 6)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as the header describes it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def is_float(self) -> bool:
        """Whether it holds fractions, as weights do."""
        return "F" in self.dtype


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What a file says it holds."""

    tensors: Mapping[str, StoredTensor]
    texts: Mapping[str, str]


def read_file_header(file: Path) -> FileHeader:
    """Read and check the description of a safetensors file; no tensor is read.

    Raises:
        AdapterError: It is not one, or a damaged or absurd one.
    """
    try:
        status = file.stat()
        if not S_ISREG(status.st_mode):  # a pipe would have us wait for ever
            raise fault(file, "is not a file; name an adapter's .safetensors file")
        size = status.st_size
        with file.open("rb") as content:
            description, tensors_bytes = _read_description(file, content, size)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise fault(file, f"cannot be read ({reason}); check that you may open it") from error
    return _parse(file, description, tensors_bytes)


def _read_description(file: Path, content: BinaryIO, size: int) -> tuple[bytes, int]:
    start = content.read(32)
    if not start:
        raise fault(file, "is empty; fetch it again")
    if what := _foreign(start):
        raise fault(
            file,
            f"is {what}, not a safetensors file; it was not opened: get it as .safetensors",
        )
    length = int.from_bytes(start[:_SIZE_BYTES], "little")
    if len(start) <= _SIZE_BYTES or start[_SIZE_BYTES : _SIZE_BYTES + 1] != b"{":
        raise fault(file, "is not a safetensors file: it does not begin as one; fetch it again")
    if length > size - _SIZE_BYTES:
        raise fault(
            file,
            f"is cut short: {size:,} bytes, but its header alone claims {length:,}; fetch it again",
        )
    if length > LONGEST_HEADER_BYTES:
        raise fault(
            file,
            f"has a header of {length:,} bytes, an adapter's has at most {LONGEST_HEADER_BYTES:,}; "
            "it is no adapter",
        )
    content.seek(_SIZE_BYTES)
    return content.read(length), size - _SIZE_BYTES - length


def _foreign(start: bytes) -> str | None:
    """Tell what other kind of file begins so."""
    if start[_SIZE_BYTES : _SIZE_BYTES + 1] == b"{":  # the length before it may look like anything
        return None
    if start[:1] == _PICKLE and len(start) > 1 and start[1] in _PICKLE_PROTOCOLS:
        return "a pickle, which can run any program"
    return next(
        (what for magic, what in _FOREIGN_BEGINNINGS.items() if start.startswith(magic)), None
    )


def _parse(file: Path, description: bytes, tensors_bytes: int) -> FileHeader:
    try:
        described: Any = json.loads(description, object_pairs_hook=_refuse_twins)
        json.dumps(described, ensure_ascii=False).encode()  # halves of characters are no text
    except _TwinError as error:
        raise fault(file, f"its header names {shown(str(error))} twice; fetch it again") from error
    except (ValueError, RecursionError) as error:
        reason = shown(str(error).split(": line")[0])
        raise fault(file, f"its header is not JSON ({reason}); fetch it again") from error
    if not isinstance(described, dict):
        raise fault(file, "its header is no JSON object; fetch it again")
    entries = dict(cast("dict[str, Any]", described))
    texts = _check_texts(file, entries.pop(_TEXTS, {}))
    if len(entries) > MOST_TENSORS:
        raise fault(file, f"holds {len(entries):,} tensors; no adapter has over {MOST_TENSORS:,}")
    places = {name: _check_entry(file, name, entry) for name, entry in entries.items()}
    _check_places(file, places, tensors_bytes)
    return FileHeader({name: tensor for name, (tensor, _) in places.items()}, texts)


class _TwinError(ValueError):
    """A key that is there twice: whoever reads it may take either."""


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for key, value in pairs:
        if key in known:
            raise _TwinError(key)
        known[key] = value
    return known


def _check_texts(file: Path, texts: Any) -> dict[str, str]:
    if not isinstance(texts, dict):
        raise fault(file, f"{_TEXTS} in its header is no JSON object; fetch it again")
    checked = cast("dict[str, Any]", texts)
    for key, text in checked.items():
        if not isinstance(text, str):
            raise fault(
                file, f"{_TEXTS}.{shown(key)} in its header is no text; fetch the file again"
            )
    return checked


def _check_entry(file: Path, name: str, entry: Any) -> tuple[StoredTensor, tuple[int, int]]:
    """Check what the header says of a tensor; its bytes come second."""
    if len(name) > LONGEST_NAME:
        raise fault(file, f"a name has {len(name):,} characters ({shown(name, 30)}); no adapter's")
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise fault(file, f"its header does not describe {shown(name)}; fetch it again")
    if dtype not in _TYPE_BYTES:
        raise fault(file, f"{shown(name)} is stored as {shown(dtype, 20)}, which is not known here")
    lengths = [length for length in shape[:MOST_AXES] if type(length) is int and length >= 0]
    if len(lengths) != len(shape):
        raise fault(file, f"{shown(name)} has a shape that is none; fetch it again")
    if prod(lengths) == 0:
        raise fault(file, f"{shown(name)} holds nothing (shape {lengths}); fetch the file again")
    if prod(lengths) * _TYPE_BYTES[dtype] != end - begin:
        raise fault(file, f"{shown(name)} has not the size of its shape; fetch the file again")
    return StoredTensor(dtype, tuple(lengths)), (begin, end)


def _check_places(
    file: Path, places: Mapping[str, tuple[StoredTensor, tuple[int, int]]], tensors_bytes: int
) -> None:
    """Refuse tensors that share bytes, leave some out or lie beyond the end."""
    expected = 0
    for name, (_, (begin, end)) in sorted(places.items(), key=lambda item: item[1][1]):
        if begin != expected:
            raise fault(file, f"{shown(name)} does not follow on the tensor before; fetch it again")
        expected = end
    if expected != tensors_bytes:
        raise fault(
            file,
            f"holds {tensors_bytes:,} bytes of tensors instead of {expected:,}; fetch it again",
        )
