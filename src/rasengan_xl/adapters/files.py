"""Save an adapter so that plain diffusers loads it at its full strength."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rasengan_xl.adapters.attach import Adapter
from rasengan_xl.errors import AdapterError

ADAPTER_FILE = "pytorch_lora_weights.safetensors"
"""The name that diffusers looks for in a folder."""
_METADATA_KEY = "lora_adapter_metadata"
_ADAPTER_NAME = "default"


def save_adapter(adapter: Adapter, file: Path) -> None:
    """Write the adapter, whole or not at all.

    Keys are PEFT's own (`unet.<layer>.lora_A.weight`); the header carries rank, alpha and
    DoRA, without which diffusers would take alpha to be the rank.
    """
    tensors: dict[str, Tensor] = {
        f"unet.{file_key(name)}": parameter.detach().cpu().contiguous()
        for name, parameter in adapter.parameters.items()
    }
    config = adapter.unet.peft_config[_ADAPTER_NAME].to_dict()
    kept = {name: value for name, value in config.items() if value is not None}
    description = {f"unet.{name}": _plain(value) for name, value in kept.items()}
    draft = file.with_suffix(".part")
    metadata = {"format": "pt", _METADATA_KEY: json.dumps(description, indent=2, sort_keys=True)}
    save_file(tensors, draft, metadata=metadata)
    draft.replace(file)


def file_key(parameter_name: str) -> str:
    """Turn `...lora_A.default.weight` into the file's `...lora_A.weight`."""
    name = parameter_name.replace(f".{_ADAPTER_NAME}.", ".")
    # PEFT keeps DoRA's magnitude in a module of its own, and its files without ".weight".
    return name.removesuffix(".weight") if ".lora_magnitude_vector" in name else name


def find_adapter(path: Path) -> Path:
    """Return the adapter's file: the path itself, or the adapter in the folder it names.

    Raises:
        AdapterError: There is none, or it is not an adapter for a UNet.
    """
    file = path / ADAPTER_FILE if path.is_dir() else path
    if not file.is_file():
        raise AdapterError(f"{path}: no adapter here; name a run's folder or a .safetensors file")
    try:
        with safe_open(file, framework="pt") as content:
            names = list(content.keys())
    except SafetensorError as error:
        raise AdapterError(f"{file}: is not a safetensors file ({error})") from error
    if not any(name.startswith("unet.") and ".lora_" in name for name in names):
        raise AdapterError(f"{file}: holds no UNet adapter in diffusers' form (unet.*.lora_*)")
    return file


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset | list | tuple):
        return (
            sorted(map(str, value)) if isinstance(value, set | frozenset) else [*map(_plain, value)]
        )
    return value if isinstance(value, str | int | float | bool) else str(value)
