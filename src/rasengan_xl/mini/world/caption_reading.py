"""What a caption asks for: the attributes that a caption or a prompt of this world names."""

import re
from collections.abc import Iterable

from rasengan_xl.mini.world.scenes import (
    ATTRIBUTES,
    EYE_COLOURS,
    HAIR_COLOURS,
    HAIR_STYLES,
    JACKET_COLOURS,
    SKIN_TONES,
)


def _one_of(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(words)})"


_HAIR_STYLE, _HAIR_COLOUR = _one_of(HAIR_STYLES), _one_of(HAIR_COLOURS)
_PATTERNS = {
    "hair_style": rf"\b({_HAIR_STYLE})(?: {_HAIR_COLOUR})? hair\b|\b(bun)\b",
    "hair_colour": rf"\b({_HAIR_COLOUR})(?: {_HAIR_STYLE})? hair\b",
    "eye_colour": rf"\b({_one_of(EYE_COLOURS)}) eyes?\b",
    "jacket_colour": rf"\b({_one_of(JACKET_COLOURS)}) jacket\b",
    "skin_tone": rf"\b({_one_of(SKIN_TONES)})[ -]skin(?:ned)?\b",
}
_BACKGROUNDS = {
    # In this order: "the night sky" is night, and "the setting sun over the village" sunset.
    "night": r"\b(?:night|moonlight)\b",
    "sunset": r"\b(?:sunset|setting sun)\b",
    "village": r"\bvillage\b",
    "forest": r"\b(?:forest|trees)\b",
    "sky": r"\bsky\b",
}
_HEADBAND, _BARE_HEAD = r"\bheadband\b", r"\b(?:no|without(?: a| the)?)(?: ninja)? headband\b"


def read_caption(text: str) -> dict[str, str | bool]:
    """Return the attributes that a caption names, in the order of `ATTRIBUTES`.

    An attribute that is not named is absent, except `headband`: a caption of this world names
    every headband, so one without the word asks for a bare head. Unknown words are passed over;
    of two values for one attribute the first counts.
    """
    words = " ".join(text.lower().split())
    named: dict[str, str | bool] = {"headband": _names_headband(words)}
    for attribute, pattern in _PATTERNS.items():
        if found := re.search(pattern, words):
            named[attribute] = next(group for group in found.groups() if group)
    for background, pattern in _BACKGROUNDS.items():
        if re.search(pattern, words):
            named.setdefault("background", background)
    return {attribute: named[attribute] for attribute in ATTRIBUTES if attribute in named}


def _names_headband(words: str) -> bool:
    return bool(re.search(_HEADBAND, words)) and not re.search(_BARE_HEAD, words)
