"""The form of PEFT and diffusers: `unet.<layer>.lora_A.weight`, ranks and alphas in the header.

Keys are PEFT's own everywhere: diffusers decides by the first key of a file how to read all.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from rasengan_xl.adapters.changes import Decomposed
from rasengan_xl.adapters.reading.peft_metadata import METADATA_KEY
from rasengan_xl.adapters.writing.plain import Expressed
from rasengan_xl.adapters.writing.tensors import Described, factors_of
from rasengan_xl.errors import OutputError
from rasengan_xl.sdxl.layers import ADAPTED_PARTS
from rasengan_xl.sdxl.model_folder import TEXT_ENCODERS

_TEXT_MODEL = "text_model."
_ATTENTION = (".q_proj", ".k_proj", ".v_proj", ".out_proj")


def peft_tensors(changes: Mapping[str, Expressed], shapes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Name the tensors of an adapter as PEFT does.

    Args:
        changes: By layer.
        shapes: Of the layers' weights.
    """
    tensors: dict[str, Tensor] = {}
    for layer, change in changes.items():
        factors = factors_of(change, shapes[layer])
        tensors[f"{layer}.lora_A.weight"] = factors.down
        tensors[f"{layer}.lora_B.weight"] = factors.up
        if isinstance(change, Decomposed):
            # A convolution's has the shape of its output, a linear layer's is flat.
            kernel = (1,) * (len(shapes[layer]) - 2)
            shape = (1, -1, *kernel) if kernel else (-1,)
            tensors[f"{layer}.lora_magnitude_vector"] = change.magnitude.float().reshape(shape)
    return tensors


def peft_header(changes: Mapping[str, Described]) -> dict[str, str]:
    """Describe an adapter as `peft.LoraConfig`s of its parts, without which alpha would be lost.

    Raises:
        OutputError: diffusers could not load a text encoder's part.
    """
    described: dict[str, Any] = {}
    for part in ADAPTED_PARTS:
        inside = {
            _module_path(part, layer): change
            for layer, change in changes.items()
            if layer.startswith(f"{part}.")
        }
        if inside:
            _refuse_unloadable(part, inside)
            config = _describe_part(inside)
            described |= {f"{part}.{key}": value for key, value in config.items()}
    return {METADATA_KEY: json.dumps(described, indent=2, sort_keys=True)}


def _refuse_unloadable(part: str, layers: Collection[str]) -> None:
    """Refuse what diffusers recognises no form in (its utils/state_dict_utils.py)."""
    if part in TEXT_ENCODERS and not any(layer.endswith(_ATTENTION) for layer in layers):
        raise OutputError(
            f"{part}: diffusers loads no adapter of a text encoder that has none of its attention "
            "layers; export --to kohya, comfyui or merged"
        )


def _describe_part(changes: Mapping[str, Described]) -> dict[str, Any]:
    stabilized = all(change.rank_stabilized for change in changes.values())
    alphas = {
        path: change.alpha if stabilized else change.unstabilized_alpha
        for path, change in changes.items()
    }
    rank = _commonest([change.rank for change in changes.values()])
    alpha = _commonest(list(alphas.values()))
    return {
        "peft_type": "LORA",
        "bias": "none",
        "lora_dropout": 0.0,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {path: c.rank for path, c in changes.items() if c.rank != rank},
        "alpha_pattern": {path: value for path, value in alphas.items() if value != alpha},
        "target_modules": sorted(changes),
        "use_dora": any(change.decomposed for change in changes.values()),
        "use_rslora": stabilized,
    }


def _commonest(values: list[Any]) -> Any:
    """Return the value that most have; of several, the smallest."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def _module_path(part: str, layer: str) -> str:
    """Return a layer's path in its part, as PEFT compares it with the end of a module's name.

    Without `text_model.`, which modules of transformers 5 have lost and older ones have.
    """
    return layer.removeprefix(f"{part}.").removeprefix(_TEXT_MODEL)
