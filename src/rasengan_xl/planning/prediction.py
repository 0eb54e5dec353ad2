"""Seconds of a step on a GPU: as measured of the same run, else predicted, corrected if it can be.

What was measured of any run on this very GPU tells by how much the model of its speed is wrong
there; other runs on it are wrong alike.
"""

import statistics
from dataclasses import dataclass

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import RasenganError
from rasengan_xl.planning.gpus import GPU
from rasengan_xl.planning.known_costs import recall_steps
from rasengan_xl.planning.memory_modes import ModeNeeds, candidate_modes, room_gib
from rasengan_xl.planning.model_shape import find_shape
from rasengan_xl.planning.roofline import basis_of, predict_seconds

MOST_RUNS = 2
"""Earlier runs that a correction is made from: each is simulated, which takes seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of a step, and what they rest on."""

    seconds: float
    basis: str
    launch_bound: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What earlier runs on a GPU tell of its speed."""

    measured: tuple[tuple[str, float], ...] = ()
    """Settings as JSON, seed left out, and seconds of a step."""
    correction: float = 1.0
    """Measured over predicted seconds, the median over some runs."""
    runs: int = 0
    """How many."""


def gather_experience(gpu: GPU) -> Experience:
    """Look up what was measured on a GPU, by its name; nothing of one that is not here."""
    known = recall_steps(gpu.name)
    ratios: list[float] = []
    for settings, seconds in known[:MOST_RUNS]:
        mode = _as_it_ran(settings, gpu)
        if mode is not None:
            ratios.append(seconds / _predict(mode, gpu).seconds)
    return Experience(
        measured=tuple((_key(settings), seconds) for settings, seconds in known),
        correction=statistics.median(ratios) if ratios else 1.0,
        runs=len(ratios),
    )


def tell_time(settings: RunSettings, mode: ModeNeeds, gpu: GPU, experience: Experience) -> StepTime:
    """Tell how long a step takes, and how that is known."""
    predicted = _predict(mode, gpu)
    measured = dict(experience.measured).get(_key(settings))
    if measured is not None:
        return StepTime(
            seconds=measured,
            basis=f"measured on this {gpu.name} in an earlier run of the same settings",
            launch_bound=predicted.launch_bound,
        )
    if not experience.runs:
        return predicted
    return StepTime(
        seconds=predicted.seconds * experience.correction,
        basis=f"{predicted.basis}, corrected by {experience.correction:.2f} after "
        f"{experience.runs} of this GPU's earlier runs",
        launch_bound=predicted.launch_bound,
    )


def _predict(mode: ModeNeeds, gpu: GPU) -> StepTime:
    time = predict_seconds(mode.needs.work, gpu, graph=mode.options.cuda_graph)
    return StepTime(
        seconds=time.seconds,
        basis=f"predicted from operations and traffic of each kernel; {basis_of(gpu)}",
        launch_bound=time.launch_bound,
    )


def _as_it_ran(settings: RunSettings, gpu: GPU) -> ModeNeeds | None:
    """Simulate an earlier run; None if its base model is gone, or it would no longer run."""
    try:
        tried = candidate_modes(settings, find_shape(settings), gpu)
        return next((mode for mode in tried if mode.card_gib(gpu) <= room_gib(gpu)), None)
    except RasenganError:
        return None


def _key(settings: RunSettings) -> str:
    return settings.model_dump_json(exclude={"seed"})
