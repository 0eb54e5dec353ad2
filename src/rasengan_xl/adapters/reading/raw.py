"""An adapter's file as it stands, before its names are understood."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rasengan_xl.adapters.reading.faults import fault, shown
from rasengan_xl.adapters.reading.file_header import StoredTensor, read_file_header
from rasengan_xl.tensor_file import UNREADABLE, TensorFile


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAdapter:
    """Tensors by the names that a trainer gave them, and the texts beside them."""

    file: Path
    stored: Mapping[str, StoredTensor]
    """What there is, known from the header alone."""
    header: Mapping[str, str]
    content: TensorFile

    def read(self, name: str) -> Tensor:
        """Return a tensor, mapped into memory."""
        return self.content.read(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        return self.stored[name].shape


def open_adapter(file: Path) -> RawAdapter:
    """Open an adapter's file without executing anything in it, nor reading its tensors.

    Raises:
        AdapterError: It is not a sound safetensors file.
    """
    described = read_file_header(file)
    if not described.tensors:
        raise fault(file, "holds no tensors; fetch it again")
    try:
        content = TensorFile(file)
    except UNREADABLE as error:
        reason = shown(str(error))
        raise fault(file, f"is not a safetensors file ({reason}); fetch it again") from error
    return RawAdapter(file=file, stored=described.tensors, header=described.texts, content=content)


def refuse_whole_numbers(raw: RawAdapter, names: Iterable[str]) -> None:
    """Refuse weights that are no fractions, without reading them.

    Raises:
        AdapterError: The first that is stored so.
    """
    for name in names:
        if not raw.stored[name].is_float:
            raise fault(
                raw.file,
                f"{shown(name)} is stored as {raw.stored[name].dtype}; weights are fractions: "
                "save the adapter as float16, bfloat16 or float32",
            )


def refuse_broken_numbers(raw: RawAdapter, names: Iterable[str]) -> None:
    """Read weights once, and refuse NaN and infinity.

    Raises:
        AdapterError: The first that holds any.
    """
    for name in names:
        if broken := _count_broken(raw.read(name)):
            count = raw.read(name).numel()
            raise fault(
                raw.file,
                f"{shown(name)} holds NaN or infinity in {broken:,} of {count:,} places; "
                "its training diverged: take an earlier checkpoint",
            )


def _count_broken(tensor: Tensor) -> int:
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    if tensor.element_size() == 1:
        tensor = tensor.to(wide)  # 8 bits know no sum
    if torch.isfinite(tensor.sum(dtype=wide)):  # one broken number breaks the sum
        return 0
    return int((~torch.isfinite(tensor.to(wide))).sum())
