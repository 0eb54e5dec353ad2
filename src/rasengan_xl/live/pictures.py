"""Which pictures of a comparison have been drawn so far."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from PIL import Image, UnidentifiedImageError

from rasengan_xl.comparison.layout import DRAWN_FOLDER
from rasengan_xl.generation.png import SETTINGS_KEY
from rasengan_xl.live.records import LivePicture

_END_OF_PNG = b"IEND\xaeB`\x82"
"""Type and checksum of the chunk that closes every PNG."""
_SEED_FOLDER = re.compile(r"seed-(\d+)")


class PictureWatch:
    """Finds pictures; each is opened once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[str, int], LivePicture] = {}

    def look(self) -> list[LivePicture]:
        """List the pictures that are complete now, by path."""
        self._known = {
            (path, changed): picture
            for path, changed in sorted(self._list_files())
            if (picture := self._known.get((path, changed)) or self._read(path, changed))
        }
        return list(self._known.values())

    def _list_files(self) -> Iterator[tuple[str, int]]:
        """Yield the path of each PNG, relative to the folder, and when it was written."""
        for place, _, names in os.walk(self._folder / DRAWN_FOLDER):
            if Path(place).name != "shown":  # the others are drawn for numbers, not for people
                continue
            for file in (Path(place, name) for name in names if name.endswith(".png")):
                try:
                    changed = file.stat().st_mtime_ns
                except OSError:  # was there when the folder was listed
                    continue
                yield file.relative_to(self._folder).as_posix(), changed

    def _read(self, path: str, changed: int) -> LivePicture | None:
        file = self._folder / path
        try:
            if not _is_complete(file):
                return None
            with Image.open(file) as picture:
                described = _describe(picture.info.get(SETTINGS_KEY))
        except (OSError, UnidentifiedImageError):
            return None
        _, arm, *_ = [*Path(path).parent.parts, "base"]
        seed = _SEED_FOLDER.search(path)
        prompt, noise_seed = described.get("prompt"), described.get("seed")
        return LivePicture(
            path=path,
            changed=changed,
            arm=arm,
            seed=int(seed[1]) if seed else None,
            prompt=prompt if isinstance(prompt, str) else None,
            noise_seed=noise_seed if isinstance(noise_seed, int) else None,
        )


def _is_complete(file: Path) -> bool:
    """Tell whether a PNG has been written to its end."""
    with file.open("rb") as picture:
        if picture.seek(0, os.SEEK_END) < len(_END_OF_PNG):
            return False
        picture.seek(-len(_END_OF_PNG), os.SEEK_END)
        return picture.read() == _END_OF_PNG


def _describe(text: Any) -> dict[str, Any]:
    """Read what a picture of ours says of itself; nothing, where it is none."""
    try:
        described = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return {}
    return cast("dict[str, Any]", described) if isinstance(described, dict) else {}
