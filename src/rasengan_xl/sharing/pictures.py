"""The pictures that a run's card shows: base beside adapted, with what was asked for."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, ValidationError

from rasengan_xl.errors import OutputError
from rasengan_xl.generation.png import SETTINGS_KEY, save_picture
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.whole_file import write_whole

_ADAPTED, _BASE = "-adapted.png", "-base.png"
_CAPTIONS = "captions.json"
"""Which prompts of the samples are captions of held-out pictures."""


class Asked(BaseModel):
    """What a picture says of itself, as far as a card repeats it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str = ""
    """Empty: not told."""
    negative_prompt: str | None = None
    seed: int = 0
    sampler_steps: int | None = None
    guidance: float | None = None
    size: int | None = None
    """Side of a square in pixels."""
    width: int | None = None
    """In pixels, where a side may differ from the other."""
    height: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardPicture:
    """One request, drawn with the base and with the adapter from the same noise."""

    asked: Asked
    base: Path
    adapted: Path
    is_caption: bool = False
    """Whether the prompt is the caption of a held-out picture."""


def read_asked(picture: Path) -> Asked:
    """Read from a picture's file what it was asked to show.

    Raises:
        OutputError: It is no picture.
    """
    try:
        with Image.open(picture) as opened:
            text: Any = opened.info.get(SETTINGS_KEY, "{}")
        return Asked.model_validate(json.loads(text))
    except (OSError, UnidentifiedImageError) as error:
        raise OutputError(f"{picture}: cannot be read as a picture; remove it") from error
    except (ValueError, ValidationError):  # drawn by something else
        return Asked()


def read_samples(folder: RunFolder) -> tuple[CardPicture, ...]:
    """Find the pictures that lie in a run's folder, by name.

    Raises:
        OutputError: One of them cannot be read, or its base's picture is missing.
    """
    captions = _read_captions(folder)
    found: list[CardPicture] = []
    for adapted in sorted(folder.samples_folder.glob(f"*{_ADAPTED}")):
        base = adapted.with_name(adapted.name.removesuffix(_ADAPTED) + _BASE)
        if not base.is_file():
            raise OutputError(
                f"{adapted}: {base.name} is missing beside it; restore or remove both"
            )
        asked = read_asked(adapted)
        is_caption = asked.prompt in captions
        found.append(CardPicture(asked=asked, base=base, adapted=adapted, is_caption=is_caption))
    return tuple(found)


def keep_samples(folder: RunFolder, pictures: Iterable[CardPicture]) -> tuple[CardPicture, ...]:
    """Copy pictures that lie elsewhere, such as in a comparison's folder, into a run's.

    The copies say what was asked for, whether or not the pictures did.
    """
    kept: list[CardPicture] = []
    for number, picture in enumerate(pictures):
        stem = folder.samples_folder / f"{number:03d}-seed{picture.asked.seed}"
        copy = CardPicture(
            asked=picture.asked,
            base=stem.with_name(stem.name + _BASE),
            adapted=stem.with_name(stem.name + _ADAPTED),
            is_caption=picture.is_caption,
        )
        for origin, place in ((picture.base, copy.base), (picture.adapted, copy.adapted)):
            _copy(origin, place, picture.asked)
        kept.append(copy)
    _note_captions(folder, [picture.asked.prompt for picture in kept if picture.is_caption])
    return tuple(kept)


def _copy(origin: Path, place: Path, asked: Asked) -> None:
    if read_asked(origin) == asked:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin, place)
        return
    with Image.open(origin) as opened:
        save_picture(opened, place, asked.model_dump(exclude_none=True))


def _note_captions(folder: RunFolder, captions: Iterable[str]) -> None:
    """Keep which prompts of the samples are captions of held-out pictures."""
    write_whole(folder.samples_folder / _CAPTIONS, json.dumps(list(captions)))


def _read_captions(folder: RunFolder) -> frozenset[str]:
    try:
        return frozenset(json.loads((folder.samples_folder / _CAPTIONS).read_text("utf-8")))
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, TypeError) as error:
        file = folder.samples_folder / _CAPTIONS
        raise OutputError(f"{file}: is not what this version writes; remove it") from error
