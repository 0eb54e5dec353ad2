"""What runs have cost on this machine, remembered so that the next like them can be foretold."""

import contextlib
import json

import torch
from pydantic import ValidationError

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.store import content_key
from rasengan_xl.fact_index import FactIndex
from rasengan_xl.runs.records import Record

_KIND, _STEPS = "run cost", "timed steps"
_RUNS_KEPT = 8


class KnownCost(Record):
    """What a whole run took."""

    seconds: float
    """From the start of its process to its end."""
    peak_memory_gib: float | None
    """Absent where nothing was trained; so is `memory_kind`."""
    memory_kind: str | None
    device_name: str
    """On which it ran."""
    seconds_per_step: float | None = None
    """Median; absent where too few steps were taken to tell."""


def remember_cost(settings: RunSettings, cost: KnownCost) -> None:
    """Keep what a run took that was carried out in one go."""
    with FactIndex() as index:
        index.put(_KIND, _key(settings), cost.model_dump_json().encode())


def recall_cost(settings: RunSettings) -> KnownCost | None:
    """Return what the last run of such settings took, whatever its seed; None: it is not known."""
    with FactIndex() as index:
        kept = index.get(_KIND, _key(settings))
    return KnownCost.model_validate(json.loads(kept)) if kept is not None else None


class KnownSteps(Record):
    """Steps that were timed on one device, the newest last."""

    runs: tuple[tuple[str, float], ...] = ()
    """Settings as JSON, and the median seconds of a step."""


def remember_steps(settings: RunSettings, device_name: str, seconds: float) -> None:
    """Keep how long the steps of a run took on a device, to correct predictions by it."""
    told = settings.model_dump_json(exclude={"seed"})
    with FactIndex() as index:
        known = _steps_in(index, device_name)
        others = tuple(run for run in known.runs if run[0] != told)
        kept = KnownSteps(runs=(*others, (told, seconds))[-_RUNS_KEPT:])
        index.put(_STEPS, device_name, kept.model_dump_json().encode())


def recall_steps(device_name: str) -> list[tuple[RunSettings, float]]:
    """Return the settings of timed runs on a device and their seconds a step, the newest first.

    Those of an earlier version of the package, which had other settings, are left out.
    """
    with FactIndex() as index:
        known = _steps_in(index, device_name)
    found: list[tuple[RunSettings, float]] = []
    for told, seconds in reversed(known.runs):
        with contextlib.suppress(ValidationError):
            found.append((RunSettings.model_validate_json(told), seconds))
    return found


def _steps_in(index: FactIndex, device_name: str) -> KnownSteps:
    kept = index.get(_STEPS, device_name)
    return KnownSteps() if kept is None else KnownSteps.model_validate_json(kept)


def _key(settings: RunSettings) -> str:
    """Name settings but for the seed, and what they run on.

    Which GPU it is would take a context on it to learn; `device_name` tells it afterwards.
    """
    on_gpu = settings.compute.device != "cpu" and torch.cuda.device_count() > 0
    return content_key(settings.model_dump_json(exclude={"seed"}), "gpu" if on_gpu else "cpu")
