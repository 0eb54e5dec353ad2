"""The form of PEFT and diffusers: `unet.<layer>.lora_A.weight`, alphas in the header."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rasengan_xl.adapters.changes import Change, Decomposed, LowRank
from rasengan_xl.adapters.reading.raw import RawAdapter
from rasengan_xl.errors import AdapterError

METADATA_KEY = "lora_adapter_metadata"
"""Entry of the header in which diffusers keeps ranks and alphas."""

_PARTS = {
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_magnitude_vector": "magnitude",
    # As diffusers itself wrote it before PEFT, and still writes for attention.
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_magnitude_vector.weight": "magnitude",
}
_NAME = re.compile(
    r"(?P<layer>(?:unet|text_encoder|text_encoder_2)\..+)\."
    rf"(?P<part>{'|'.join(map(re.escape, _PARTS))})"
)


def is_peft_form(raw: RawAdapter) -> bool:
    """Tell whether any weight is named as PEFT or diffusers name them."""
    return any(_NAME.fullmatch(name) for name in raw.tensors)


def parse_peft_form(raw: RawAdapter) -> dict[str, Change]:
    """Understand a file of this form.

    Raises:
        AdapterError: A weight has another name, a layer lacks a factor, or the header is no JSON.
    """
    layers: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in raw.tensors.items():
        if not (match := _NAME.fullmatch(name)):
            raise AdapterError(
                f"{raw.file}: {name} is not among the names of PEFT and diffusers, which the "
                "others have; convert the file with the program that wrote it"
            )
        layers[match["layer"]][_PARTS[match["part"]]] = tensor
    described = _read_metadata(raw)
    return {layer: _understand(raw, layer, parts, described) for layer, parts in layers.items()}


def _understand(
    raw: RawAdapter, layer: str, parts: Mapping[str, Tensor], described: Mapping[str, Any]
) -> Change:
    if missing := {"down", "up"} - parts.keys():
        raise AdapterError(f"{raw.file}: {layer} lacks its {missing.pop()} factor; fetch it again")
    part, _, inside = layer.partition(".")
    direction = LowRank(
        down=parts["down"],
        up=parts["up"],
        alpha=_alpha_of(described, part, inside, parts["down"].shape[0]),
        rank_stabilized=described.get(f"{part}.use_rslora") is True,
    )
    if "magnitude" not in parts:
        return direction
    return Decomposed(direction=direction, magnitude=parts["magnitude"])


def _alpha_of(described: Mapping[str, Any], part: str, layer: str, rank: int) -> float:
    """Return a layer's alpha as PEFT finds it: by pattern, else for all, else the rank."""
    for pattern, alpha in described.get(f"{part}.alpha_pattern", {}).items():
        if re.match(rf"(.*\.)?({pattern})$", layer):
            return float(alpha)
    return float(described.get(f"{part}.lora_alpha", rank))


def _read_metadata(raw: RawAdapter) -> Mapping[str, Any]:
    try:
        described: Any = json.loads(raw.header.get(METADATA_KEY, "{}"))
        return dict(described)
    except (ValueError, TypeError) as error:
        raise AdapterError(
            f"{raw.file}: {METADATA_KEY} in its header is not JSON ({error}); fetch it again"
        ) from error
