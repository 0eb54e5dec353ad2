"""An adapter's file as it stands, before its names are understood."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from rasengan_xl.errors import AdapterError
from rasengan_xl.tensor_file import UNREADABLE, read_header, read_tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAdapter:
    """Tensors by the names that a trainer gave them, and the texts beside them."""

    file: Path
    tensors: Mapping[str, Tensor]
    header: Mapping[str, str]


def open_adapter(file: Path) -> RawAdapter:
    """Read an adapter's file without executing anything in it.

    Raises:
        AdapterError: It is not a sound safetensors file.
    """
    try:
        return RawAdapter(file=file, tensors=read_tensors(file), header=read_header(file))
    except UNREADABLE as error:
        raise AdapterError(f"{file}: is not a safetensors file ({error})") from error
