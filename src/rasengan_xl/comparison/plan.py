"""What of a comparison is done already, and what is left to do."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from rasengan_xl.comparison.chosen_arms import refuse_unknown_arms
from rasengan_xl.comparison.facts import PreparedFacts
from rasengan_xl.comparison.layout import ComparisonFolder
from rasengan_xl.config.comparison import differences
from rasengan_xl.config.comparison_settings import ComparisonSettings
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.errors import OutputError
from rasengan_xl.planning.known_costs import KnownCost, recall_cost
from rasengan_xl.runs.folder import RunFolder, read_record
from rasengan_xl.runs.records import DatasetFacts, ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One arm with one seed: where it stands."""

    arm: str
    seed: int
    settings: RunSettings
    folder: RunFolder
    state: Literal["finished", "begun", "new"]
    steps_done: int
    known: KnownCost | None
    """What such a run has cost before, on this machine."""

    @property
    def name(self) -> str:
        """What the run is called."""
        return f"{self.arm}/seed-{self.seed}"

    @property
    def predicted_seconds(self) -> float | None:
        """Seconds that are left, if such a run's are known."""
        if self.state == "finished":
            return 0.0
        if self.known is None:
            return None
        if self.settings.is_given:
            return self.known.seconds
        return self.known.seconds * (1 - self.steps_done / self.settings.training.steps)


def plan_runs(
    settings: ComparisonSettings, folder: ComparisonFolder, only: Collection[str] = ()
) -> list[PlannedRun]:
    """List every run, those of one seed together, so that all arms grow alike.

    Args:
        settings: Their learning rates are those to be trained with.
        folder: What lies there is kept.
        only: Arms to be trained now; all, if none is named.

    Raises:
        RecipeError: `only` names no arm.
        OutputError: A run that lies here was made with other settings.
    """
    refuse_unknown_arms(only, settings.arms)
    return [
        _plan_run(arm, seed, settings.arms[arm], folder)
        for seed in settings.seeds
        for arm in settings.arms
        if not only or arm in only
    ]


def with_seed(settings: RunSettings, seed: int) -> RunSettings:
    """Return an arm's settings for one of the seeds."""
    return settings.model_copy(update={"seed": seed})


def _plan_run(arm: str, seed: int, settings: RunSettings, folder: ComparisonFolder) -> PlannedRun:
    run, wanted = folder.run(arm, seed), with_seed(settings, seed)
    if not run.is_begun:
        state, steps_done = "new", 0
    else:
        refuse_changes(run, wanted)
        state = "finished" if run.is_finished else "begun"
        steps_done = wanted.training.steps if run.is_finished else next(iter(run.checkpoints()), 0)
    return PlannedRun(
        arm=arm,
        seed=seed,
        settings=wanted,
        folder=run,
        state=state,
        steps_done=steps_done,
        known=recall_cost(wanted),
    )


def refuse_changes(run: RunFolder, wanted: RunSettings) -> None:
    """Refuse to take a run for one with other settings: every figure would be beside the point.

    Raises:
        OutputError: They differ; every key is named.
    """
    values = differences({"was": run.read_settings(), "is": wanted})
    if values["was"]:
        changes = "; ".join(
            f"{k} was {values['was'][k]!r}, is {values['is'][k]!r}" for k in values["was"]
        )
        raise OutputError(
            f"{run.path}: was run with other settings: {changes}; choose another --out, or remove "
            "that folder to have it run anew"
        )


def refuse_changed_origin(folder: ComparisonFolder, found: PreparedFacts) -> None:
    """Refuse to set runs beside others that saw another dataset or started from another base.

    Raises:
        OutputError: Files behind an unchanged name have changed since a run here was begun.
    """
    for place in sorted(folder.root.glob("arms/*/seed-*")):
        run = RunFolder(place)
        if not run.has_origin:
            continue
        dataset = read_record(DatasetFacts, run.dataset_file)
        if dataset.fingerprint != found.dataset_fingerprint:
            raise _changed(run, f"the dataset {dataset.source}")
        if read_record(ModelFacts, run.model_file).parts != found.model.parts:
            raise _changed(run, f"the base model {found.model.name}")


def _changed(run: RunFolder, what: str) -> OutputError:
    return OutputError(
        f"{run.path}: {what} has changed since this run was begun, so that others could not be set "
        "beside it; restore it, choose another --out, or remove that folder to have it run anew"
    )
