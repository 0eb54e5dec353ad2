"""What runs have cost on this machine, remembered so that the next like them can be foretold."""

import json

import torch

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.store import content_key
from rasengan_xl.fact_index import FactIndex
from rasengan_xl.runs.records import Record

_KIND = "run cost"


class KnownCost(Record):
    """What a whole run took."""

    seconds: float
    """From the start of its process to its end."""
    peak_memory_gib: float | None
    """Absent where nothing was trained; so is `memory_kind`."""
    memory_kind: str | None
    device_name: str
    """On which it ran."""


def remember_cost(settings: RunSettings, cost: KnownCost) -> None:
    """Keep what a run took that was carried out in one go."""
    with FactIndex() as index:
        index.put(_KIND, _key(settings), cost.model_dump_json().encode())


def recall_cost(settings: RunSettings) -> KnownCost | None:
    """Return what the last run of such settings took, whatever its seed; None: it is not known."""
    with FactIndex() as index:
        kept = index.get(_KIND, _key(settings))
    return KnownCost.model_validate(json.loads(kept)) if kept is not None else None


def _key(settings: RunSettings) -> str:
    """Name settings but for the seed, and what they run on.

    Which GPU it is would take a context on it to learn; `device_name` tells it afterwards.
    """
    on_gpu = settings.compute.device != "cpu" and torch.cuda.device_count() > 0
    return content_key(settings.model_dump_json(exclude={"seed"}), "gpu" if on_gpu else "cpu")
