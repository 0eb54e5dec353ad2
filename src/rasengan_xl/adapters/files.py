"""Save an adapter so that plain diffusers loads it at its full strength."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from peft import LoraConfig

from rasengan_xl.adapters.adapter import Adapter
from rasengan_xl.adapters.decomposition import (
    DECOMPOSITIONS_KEY,
    PEFT_DORA,
    write_decompositions,
)
from rasengan_xl.adapters.peft_adapter import lora_config
from rasengan_xl.adapters.reading.layer_keys import refuse_other_files
from rasengan_xl.adapters.reading.peft_metadata import METADATA_KEY
from rasengan_xl.adapters.reading.raw import open_adapter
from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.engine.weights import compute_dtype
from rasengan_xl.errors import AdapterError
from rasengan_xl.runs.folder import ADAPTER_FILE
from rasengan_xl.tensor_file import read_header, write_tensors

_ADAPTER_NAME = "default"
FROM_PURE_NOISE = {"ss_zero_terminal_snr": "True"}
"""The entry of a file's header that github.com/kohya-ss/sd-scripts tells the same by."""


def save_adapter(adapter: Adapter, file: Path, *, zero_terminal_snr: bool = False) -> None:
    """Write the adapter, whole or not at all.

    Keys are PEFT's own (`unet.<layer>.lora_A.weight`); the header carries rank, alpha and
    DoRA, without which diffusers would take alpha to be the rank; and how the base was stored
    whose norms DoRA's magnitudes are of.

    Args:
        adapter: On its base.
        file: Where to.
        zero_terminal_snr: Note that it was trained to begin from pure noise, though its base was
            not: it must be drawn with so.
    """
    tensors = {f"unet.{file_key(name)}": p for name, p in adapter.parameters.items()}
    header = describe_adapter(lora_config(adapter.settings), zero_terminal_snr=zero_terminal_snr)
    if adapter.settings.decompose:
        header |= _describe_store(adapter)
    write_tensors(file, tensors, header)


def _describe_store(adapter: Adapter) -> dict[str, str]:
    """Return the entry that tells of which weights DoRA's norms are, if they are rounded ones."""
    store = STORAGES[adapter.settings.base_precision].linears
    if store == "compute":
        return {}
    layer = next(iter(adapter.layers.values())).base
    precision: Any = str(compute_dtype(layer)).removeprefix("torch.")
    meaning = replace(PEFT_DORA, stored=store, precision=precision)
    return {DECOMPOSITIONS_KEY: write_decompositions([meaning])}


def describe_adapter(config: LoraConfig, *, zero_terminal_snr: bool = False) -> dict[str, str]:
    """Return the header of an adapter's file."""
    fields = cast("dict[str, Any]", config.to_dict())
    kept = {name: value for name, value in fields.items() if value is not None}
    description = {f"unet.{name}": _plain(value) for name, value in kept.items()}
    header = {METADATA_KEY: json.dumps(description, indent=2, sort_keys=True)}
    return {**header, **(FROM_PURE_NOISE if zero_terminal_snr else {})}


def begins_from_pure_noise(file: Path) -> bool:
    """Tell whether an adapter's file says that it was trained with zero terminal SNR."""
    return FROM_PURE_NOISE.items() <= read_header(file).items()


def file_key(parameter_name: str) -> str:
    """Turn `...lora_A.default.weight` into the file's `...lora_A.weight`."""
    name = parameter_name.replace(f".{_ADAPTER_NAME}.", ".")
    # PEFT keeps DoRA's magnitude in a module of its own, and its files without ".weight".
    return name.removesuffix(".weight") if ".lora_magnitude_vector" in name else name


def find_adapter(path: Path) -> Path:
    """Return an adapter's file: the path itself, or the adapter in the folder it names.

    It may be any trainer's.  Only the description at its start is read.

    Raises:
        AdapterError: There is none, several, or it is not an adapter.
    """
    file = _find_in_folder(path) if path.is_dir() else path
    if not file.is_file():
        raise AdapterError(f"{path}: no adapter here; name a run's folder or a .safetensors file")
    refuse_other_files(open_adapter(file))
    return file


def _find_in_folder(folder: Path) -> Path:
    """Choose a run's adapter, or the only file of a folder that comes from elsewhere."""
    own = folder / ADAPTER_FILE
    others = sorted(folder.glob("*.safetensors"))
    if own.exists() or not others:
        return own
    if len(others) > 1:
        raise AdapterError(f"{folder}: holds {len(others)} .safetensors files; name one of them")
    return others[0]


def _plain(value: Any) -> Any:
    """Turn PEFT's own enumerations and sets into what JSON can hold."""
    match value:
        case dict():
            return {str(key): _plain(item) for key, item in cast("dict[Any, Any]", value).items()}
        case set() | frozenset():
            return sorted(map(str, cast("set[Any]", value)))
        case list() | tuple():
            return [_plain(item) for item in cast("list[Any]", value)]
        case str() | int() | float():
            return value
        case _:
            return str(value)
