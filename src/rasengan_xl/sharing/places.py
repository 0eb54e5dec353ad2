"""Names of places on this machine: found in what is made public, and replaced there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, cast

from rasengan_xl.runs.folder import RunFolder, read_record
from rasengan_xl.runs.records import DatasetFacts, ModelFacts
from rasengan_xl.sources.embedded import EMBEDDED

_ABSOLUTE = re.compile(
    r"(?<![\w.:/~-])(?:~|file:|[A-Za-z]:)?[\\/]+(?:[^\\/\s\"'<>|,;]+[\\/]+)+[^\\/\s\"'<>|,;]*"
)
"""A path from the root or from a home, within a text."""
_WHOLE = re.compile(r"(?:~|[A-Za-z]:)?[\\/].*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """What a run calls its base and its dataset, and what others may read of that."""

    base_model: str
    base_is_public: bool
    """A hub model, or the one that ships."""
    dataset: str
    dataset_is_public: bool
    """A hub dataset, or the one that ships."""


def find_origins(folder: RunFolder) -> Origins:
    """Return names of a run's base and dataset that tell nothing of this machine.

    Only what was pinned to a commit of the hub is called by its whole name: a path may look like
    a hub id, and an address may hold what is secret.

    Raises:
        OutputError: The run has not come far enough to say where it came from.
    """
    model = read_record(ModelFacts, folder.model_file)
    dataset = read_record(DatasetFacts, folder.dataset_file)
    base_is_public = model.revision is not None or model.name == EMBEDDED
    dataset_is_public = dataset.revision is not None or dataset.source == EMBEDDED
    return Origins(
        base_model=model.name if base_is_public else last_part(model.name),
        base_is_public=base_is_public,
        dataset=dataset.source if dataset_is_public else last_part(dataset.source),
        dataset_is_public=dataset_is_public,
    )


def known_places(folder: RunFolder) -> dict[str, str]:
    """List places whose names may stand in a run's records, with what stands for them instead."""
    settings, origins = folder.read_settings(), find_origins(folder)
    here = folder.path.resolve()
    places = {str(here): here.name, str(folder.path): here.name, str(Path.home()): "~"}
    start = settings.adapter.start_from
    for name, public in (
        (settings.base_model, origins.base_model),
        (settings.dataset.source, origins.dataset),
        *(((start, last_part(start)),) if start is not None else ()),
    ):
        if name != public:
            places[name] = public
            places[str(Path(name).expanduser().resolve())] = public
    return {name: public for name, public in places.items() if name not in {".", "/", public}}


def last_part(place: str) -> str:
    """Return the last part of a path or address; nothing of what leads there, nor of a query."""
    bare = re.split(r"[?#]", place)[0] if "://" in place else place
    # A Windows path has both separators, and any other may have backslashes in its names.
    pure = PureWindowsPath(bare) if re.match(r"[A-Za-z]:\\", bare) else PurePosixPath(bare)
    return pure.name or "local"


def hide_places(value: Any, known: Mapping[str, str]) -> Any:
    """Replace every place in JSON values; a text that is JSON itself is looked into."""
    match value:
        case dict():
            items = cast("dict[str, Any]", value).items()
            return {hide_in_text(key, known): hide_places(item, known) for key, item in items}
        case list():
            return [hide_places(item, known) for item in cast("list[Any]", value)]
        case str():
            return hide_in_text(value, known)
        case _:
            return value


def hide_in_text(text: str, known: Mapping[str, str]) -> str:
    """Replace places in a text: those that are known, and whatever else is an absolute path."""
    if text in known:
        return known[text]
    for place in sorted(known, key=len, reverse=True):
        # A relative name is hidden only where it is all there is: it may be a common word.
        if _WHOLE.fullmatch(place) or "://" in place:
            text = text.replace(place, known[place])
    if _WHOLE.fullmatch(text) and "\n" not in text and " " not in text.strip("/\\ "):
        return last_part(text)
    return _ABSOLUTE.sub(lambda found: last_part(found[0]), text)
