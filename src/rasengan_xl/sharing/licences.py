"""Under which licences a run's base and data stand, as far as this machine can tell."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import huggingface_hub

from rasengan_xl.config.settings import SDXL
from rasengan_xl.runs.folder import RunFolder, read_record
from rasengan_xl.runs.records import DatasetFacts, ModelFacts
from rasengan_xl.sharing.markdown import on_one_line
from rasengan_xl.sources.embedded import EMBEDDED

UNKNOWN = "unknown"
"""Also how the hub calls it."""
OWN_LICENCE = "apache-2.0"
"""Of this package, its model and its drawn world."""
_NARUTO = "lambdalabs/naruto-blip-captions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """A licence by the hub's short name, and where that name was read."""

    name: str
    remark: str


def find_base_licence(folder: RunFolder) -> Licence:
    """Tell the licence of the base model that a run starts from; never guess one."""
    model = read_record(ModelFacts, folder.model_file)
    if model.name == EMBEDDED:
        return Licence(name=OWN_LICENCE, remark="ships with Rasengan-XL")
    if model.name == SDXL:
        return Licence(name="openrail++", remark="CreativeML Open RAIL++-M, with limits of use")
    if model.revision is None:
        return _read_licence(Path(model.name).expanduser() / "README.md", "the base model")
    card = _cached_card(model.name, model.revision, "model")
    return _read_licence(card, "the base model")


def find_data_licence(folder: RunFolder) -> Licence:
    """Tell the licence of the pictures that a run was trained on; never guess one."""
    dataset = read_record(DatasetFacts, folder.dataset_file)
    if dataset.source == EMBEDDED:
        return Licence(name=OWN_LICENCE, remark="drawn by the code of Rasengan-XL")
    if dataset.revision is None:
        return Licence(name=UNKNOWN, remark="pictures of the user's own; ask who trained this")
    card = _cached_card(dataset.source, dataset.revision, "dataset")
    found = _read_licence(card, "the dataset")
    if dataset.source == _NARUTO and found.name == UNKNOWN:
        return Licence(name=UNKNOWN, remark="shows figures of Naruto, to which others hold rights")
    return found


def _cached_card(name: str, revision: str, repo_type: Literal["model", "dataset"]) -> Path | None:
    found: Any = huggingface_hub.try_to_load_from_cache(
        name, "README.md", revision=revision, repo_type=repo_type
    )
    return Path(found) if isinstance(found, str) else None


def _read_licence(card: Path | None, of: str) -> Licence:
    """Read the licence in the front matter of a card that lies on this machine."""
    unknown = Licence(name=UNKNOWN, remark=f"see {of}")
    if card is None or not card.is_file():
        return unknown
    try:
        name = cast("dict[str, Any]", huggingface_hub.metadata_load(card))["license"]
    except Exception:  # a stranger's card: whatever is wrong with it, it tells nothing
        return unknown
    if not isinstance(name, str) or not name:
        return unknown
    return Licence(name=on_one_line(name), remark=f"as the card of {of} says")
