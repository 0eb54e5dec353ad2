"""The weights of a base model as they lie on disk, mapped into memory one tensor at a time."""

import json
import mmap
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

import safetensors
import torch
from jaxtyping import Shaped
from torch import Tensor

from rasengan_xl.errors import ModelError
from rasengan_xl.sdxl.model_folder import TEXT_ENCODERS, WEIGHTED_PARTS, ModelFolder
from rasengan_xl.tensor_file import UNREADABLE
from rasengan_xl.tensor_stream import TYPE_NAMES

_open_file: Any = safetensors.safe_open  # its types are not published

_SIZE_BYTES = 8  # huggingface.co/docs/safetensors: a length, a JSON header, then the tensors
_INDEX_SUFFIX = ".safetensors.index"
_TEXT_MODEL = "text_model."
_UNWRAPPED = ("embeddings.", "encoder.", "final_layer_norm.")
"""What transformers >= 5.6 leaves the wrapper `text_model` out of, which all other files have."""
_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_ATTENTION = re.compile(r"(\.attentions\.0)\.(query|key|value|proj_attn)\.")
"""Of a VAE, before diffusers 0.15."""
_TYPES = {name: dtype for dtype, name in TYPE_NAMES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where a tensor lies, and what it is, without its values."""

    file: Path
    begin: int
    """Of its first byte in the file."""
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Its size."""
        return prod(self.shape) * self.dtype.itemsize


class StoredWeights:
    """Every tensor of a base model by name, such as `unet.conv_in.weight`.

    Names are `<part>.<parameter>`, the parameter as diffusers and transformers call it; those of
    text encoders always begin with `text_model.` (or are `text_projection.weight`).
    """

    def __init__(self, model: ModelFolder) -> None:
        """Read what each file holds, and no tensor.

        Raises:
            ModelError: A file is missing, damaged, or holds a type that no SDXL has.
        """
        self.model = model
        self._stored: dict[str, StoredTensor] = {}
        for part in WEIGHTED_PARTS:
            for file in _weight_files(model, part):
                self._add(part, file)

    def names(self, part: str = "") -> list[str]:
        """List the tensors, in the order of the files.

        Args:
            part: Only those of this one, such as `unet`.
        """
        return [name for name in self._stored if name.startswith(f"{part}." if part else "")]

    def __contains__(self, name: object) -> bool:
        """Tell whether there is such a tensor."""
        return name in self._stored

    def describe(self, name: str) -> StoredTensor:
        """Tell shape, type and place of a tensor without reading it.

        Raises:
            ModelError: There is no such tensor.
        """
        if name not in self._stored:
            raise ModelError(f"{self.model.path}: has no {name}; give the base it is meant for")
        return self._stored[name]

    def read(self, name: str) -> Shaped[Tensor, "..."]:
        """Return a tensor whose memory is the file's own, given back when it is dropped.

        Raises:
            ModelError: There is no such tensor, or its file is gone.
        """
        stored = self.describe(name)
        if not stored.nbytes:
            return torch.empty(stored.shape, dtype=stored.dtype)
        begin = stored.begin - stored.begin % mmap.ALLOCATIONGRANULARITY
        try:
            with stored.file.open("rb") as file:
                # A private copy by page, so that torch need not be told never to write.
                content = mmap.mmap(
                    file.fileno(),
                    stored.begin - begin + stored.nbytes,
                    access=mmap.ACCESS_COPY,
                    offset=begin,
                )
        except (OSError, ValueError) as error:
            raise ModelError(f"{stored.file}: cannot be read any more ({error})") from error
        flat = torch.frombuffer(
            content, dtype=stored.dtype, count=prod(stored.shape), offset=stored.begin - begin
        )
        return flat.reshape(stored.shape)

    def _add(self, part: str, file: Path) -> None:
        header, begin = _read_header(file)
        for key, value in header.items():
            if key == "__metadata__":
                continue
            if value["dtype"] not in _TYPES:
                raise ModelError(
                    f"{file}: {key} is of type {value['dtype']}; give a base model in 16 or 32 bits"
                )
            self._stored[f"{part}.{_published(part, key)}"] = StoredTensor(
                file=file,
                begin=begin + value["data_offsets"][0],
                shape=tuple(value["shape"]),
                dtype=_TYPES[value["dtype"]],
            )


def _published(part: str, name: str) -> str:
    """Return what a parameter is called in most files, whichever version wrote this one."""
    if part in TEXT_ENCODERS:
        return f"{_TEXT_MODEL}{name}" if name.startswith(_UNWRAPPED) else name
    if part == "vae":
        return _OLD_ATTENTION.sub(lambda found: f"{found[1]}.{_ATTENTION[found[2]]}.", name)
    return name


def _weight_files(model: ModelFolder, part: str) -> list[Path]:
    """Find the file of a part, or the shards that its index names."""
    folder = model.path / part
    variant = model.weights_variant(part)
    stem = "model" if part in TEXT_ENCODERS else "diffusion_pytorch_model"
    suffix = f".{variant}" if variant else ""
    whole = folder / f"{stem}{suffix}.safetensors"
    if whole.is_file():
        return [whole]
    index = folder / f"{stem}{_INDEX_SUFFIX}{suffix}.json"
    if not index.is_file():
        raise ModelError(
            f"{folder}: has neither {whole.name} nor {index.name}; fetch the model again"
        )
    try:
        shards: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return [folder / Path(name).name for name in sorted(set(shards.values()))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index}: cannot be read ({error!r}); fetch the model again") from error


def _read_header(file: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """Read what a file holds, and where its first tensor begins."""
    try:
        with _open_file(file, framework="pt"):
            pass  # the library has checked lengths, shapes and offsets
        with file.open("rb") as content:
            size = int.from_bytes(content.read(_SIZE_BYTES), "little")
            header = cast("dict[str, dict[str, Any]]", json.loads(content.read(size)))
    except UNREADABLE as error:
        raise ModelError(f"{file}: cannot be read ({error}); fetch the model again") from error
    return header, _SIZE_BYTES + size
