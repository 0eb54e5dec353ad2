"""Ranks and alphas that PEFT and diffusers keep beside the weights, not among them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from rasengan_xl.adapters.reading.faults import fault, shown
from rasengan_xl.adapters.reading.raw import RawAdapter
from rasengan_xl.sdxl.layers import ADAPTED_PARTS

METADATA_KEY = "lora_adapter_metadata"
"""Entry of the header: diffusers 0.42, loaders/lora_base.py."""
CONFIG_FILE = "adapter_config.json"
"""Beside PEFT's own files: PEFT 0.21, peft/utils/constants.py."""

_LONGEST_CONFIG_BYTES = 2**20
_HIGHEST_NUMBER = 1e9
_PLAIN = re.compile(r"\^?[\w.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeftSettings:
    """What PEFT's `LoraConfig` says of the layers of one part of a model."""

    rank: float
    alpha: float
    ranks: Mapping[str, float]
    """Of layers that have another, by the end of their name."""
    alphas: Mapping[str, float]
    rank_stabilized: bool
    decomposed: bool | None
    """Whether it says that it is a DoRA."""

    def rank_of(self, layer: str) -> float:
        """Return the rank of a layer."""
        return _pick(self.ranks, layer, self.rank)

    def alpha_of(self, layer: str) -> float:
        """Return the alpha of a layer."""
        return _pick(self.alphas, layer, self.alpha)


def read_header_settings(raw: RawAdapter) -> dict[str, PeftSettings]:
    """Read what the header says, by part; empty if it says nothing.

    Raises:
        AdapterError: It is no sound JSON.
    """
    described = _parse(raw, raw.header.get(METADATA_KEY, "{}"), METADATA_KEY)
    settings: dict[str, PeftSettings] = {}
    for part in ADAPTED_PARTS:
        start = f"{part}."
        own = {k.removeprefix(start): v for k, v in described.items() if k.startswith(start)}
        if own:
            settings[part] = _understand(raw, own, METADATA_KEY)
    if described and not settings:  # as `save_lora_adapter` of a model alone writes it
        settings["unet"] = _understand(raw, described, METADATA_KEY)
    return settings


def read_config_file(raw: RawAdapter) -> PeftSettings | None:
    """Read PEFT's configuration beside the file, if it is there.

    Raises:
        AdapterError: It is no sound JSON, or not of a LoRA.
    """
    file = raw.file.parent / CONFIG_FILE
    try:
        if not file.is_file() or file.stat().st_size > _LONGEST_CONFIG_BYTES:
            return None
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise fault(file, "cannot be read; it holds the adapter's alpha: fetch it again") from error
    described = _parse(raw, text, CONFIG_FILE)
    if described.get("peft_type", "LORA") != "LORA":
        kind = shown(str(described["peft_type"]), 20)
        raise fault(raw.file, f"{CONFIG_FILE} beside it says {kind}; of PEFT's only LORA is read")
    return _understand(raw, described, CONFIG_FILE)


def _parse(raw: RawAdapter, text: str, where: str) -> dict[str, Any]:
    try:
        described: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = shown(str(error).split(": line")[0])
        raise fault(raw.file, f"{where} is not JSON ({reason}); fetch it again") from error
    if not isinstance(described, dict):
        raise fault(raw.file, f"{where} is no JSON object; fetch the file again")
    return cast("dict[str, Any]", described)


def _understand(raw: RawAdapter, described: Mapping[str, Any], where: str) -> PeftSettings:
    rank = _number(raw, described, "r", where)
    return PeftSettings(
        rank=rank,
        alpha=_number(raw, described, "lora_alpha", where),
        ranks=_pattern(raw, described, "rank_pattern", where),
        alphas=_pattern(raw, described, "alpha_pattern", where),
        rank_stabilized=described.get("use_rslora") is True,
        decomposed=described.get("use_dora"),
    )


def _number(raw: RawAdapter, described: Mapping[str, Any], key: str, where: str) -> float:
    value: Any = described.get(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < _HIGHEST_NUMBER:
        told = "is missing" if value is None else f"is {shown(str(value), 30)}"
        raise fault(raw.file, f"{where}: {shown(key)} {told}; it must be a number above 0")
    return float(value)


def _pattern(
    raw: RawAdapter, described: Mapping[str, Any], key: str, where: str
) -> dict[str, float]:
    """Read numbers by name.

    PEFT takes the names for regular expressions.  Those of a file that nobody has vouched for
    could be made to run for ever, so only plain names are read; diffusers writes no others.
    """
    pattern: Any = described.get(key) or {}
    if not isinstance(pattern, dict):
        raise fault(raw.file, f"{where}: {key} is no JSON object; fetch the file again")
    numbers = cast("dict[str, Any]", pattern)
    for name in numbers:
        if not _PLAIN.fullmatch(name):
            raise fault(
                raw.file,
                f"{where}: {key} names layers by a regular expression ({shown(name, 40)}); "
                "write out the names",
            )
    return {name: _number(raw, numbers, name, f"{where}: {key}") for name in numbers}


def _pick(numbers: Mapping[str, float], layer: str, default: float) -> float:
    """Choose as PEFT does: the first whose name the layer's ends with; `^` wants all of it."""
    for name, number in numbers.items():
        if layer == name.removeprefix("^") or layer.endswith(f".{name}"):
            return number
    return default
