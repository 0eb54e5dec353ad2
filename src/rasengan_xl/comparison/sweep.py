"""Find each arm's learning rate: the one with the lowest loss on the tuning pictures."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from rasengan_xl.comparison.chosen_arms import refuse_unknown_arms
from rasengan_xl.comparison.facts import FailureFacts
from rasengan_xl.comparison.layout import ComparisonFolder
from rasengan_xl.comparison.plan import refuse_changes
from rasengan_xl.comparison.result import SweepTrial
from rasengan_xl.comparison.side_by_side import JobEnded
from rasengan_xl.config.comparison_settings import ComparisonSettings, SweepSettings
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.config.wording import describe_errors
from rasengan_xl.errors import RecipeError
from rasengan_xl.runs.folder import RunFolder, read_record
from rasengan_xl.runs.records import RunSummary
from rasengan_xl.whole_file import write_whole

Sweep = dict[str, list[SweepTrial]]
"""By name of the arm, one trial for each learning rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One learning rate for one arm: to be tried, or tried already."""

    arm: str
    learning_rate: float
    settings: RunSettings
    folder: RunFolder
    wanted: bool
    """Whether its arm is to be trained now."""
    begun_rate: float | None
    """The rate that runs of its arm were begun with: it stands, whatever trials say later."""

    @property
    def name(self) -> str:
        """What the trial is called."""
        return f"{self.arm} at {self.learning_rate:g}"

    @property
    def is_finished(self) -> bool:
        """Whether it has a loss on the tuning pictures."""
        return self.folder.is_begun and self.folder.is_finished

    @property
    def failure(self) -> str | None:
        """Why it failed before, which it would do again; None: it did not."""
        file = _failure_file(self)
        if self.is_finished or not (self.folder.is_begun and file.exists()):
            return None
        return read_record(FailureFacts, file).reason

    @property
    def is_waiting(self) -> bool:
        """Whether it is to be tried now."""
        decided = self.begun_rate is not None
        return self.wanted and not decided and not self.is_finished and self.failure is None


def list_trials(
    settings: ComparisonSettings, folder: ComparisonFolder, only: Collection[str] = ()
) -> list[Trial]:
    """List every trial of every arm; none if the comparison has no sweep.

    Args:
        settings: Of the comparison, as the recipe has them.
        folder: What lies there is kept.
        only: Arms to be trained now; all, if none is named.

    Raises:
        RecipeError: A trial's settings are not allowed, or `only` names no arm.
        OutputError: A trial that lies here was made with other settings.
    """
    refuse_unknown_arms(only, settings.arms)
    if settings.sweep is None:
        return []
    trials: list[Trial] = []
    for name, arm in settings.arms.items():
        begun = _begun_rate(name, settings, folder)
        trials += [
            Trial(
                arm=name,
                learning_rate=rate,
                settings=_settle(arm, rate, settings.sweep),
                folder=folder.trial(name, rate),
                wanted=not only or name in only,
                begun_rate=begun,
            )
            for rate in _rates(settings.sweep, begun)
        ]
    for trial in trials:
        if trial.folder.is_begun:
            refuse_changes(trial.folder, trial.settings)
    return trials


def keep_failure(trial: Trial, end: JobEnded) -> None:
    """Write down why a trial failed, so that it is not tried again.

    One that was lost may succeed another time, and one that had not begun has met something that
    has nothing to do with its rate: they are tried again.
    """
    if end.reason is not None and not end.lost and trial.folder.is_begun:
        facts = FailureFacts(reason=end.reason, attempts=end.attempts)
        write_whole(_failure_file(trial), facts.model_dump_json(indent=2))


def choose_rates(trials: list[Trial], failures: Mapping[str, str] | None = None) -> Sweep:
    """Mark, for each arm, the trial with the lowest loss on the tuning pictures.

    An arm whose runs have begun keeps the rate that they were begun with.

    Args:
        trials: All of them.
        failures: Why a trial failed just now, by its name.
    """
    sweep: Sweep = {}
    begun = {trial.arm: trial.begun_rate for trial in trials}
    for trial in trials:
        found = _read(trial, (failures or {}).get(trial.name))
        sweep.setdefault(trial.arm, []).append(found)
    return {arm: _mark_chosen(found, begun[arm]) for arm, found in sweep.items()}


def settle_rates(settings: ComparisonSettings, sweep: Sweep) -> ComparisonSettings:
    """Give every arm the learning rate that was chosen for it; one without stays as it is."""
    arms = dict(settings.arms)
    for name, trials in sweep.items():
        for trial in trials:
            if trial.chosen:
                arms[name] = _with_rate(arms[name], trial.learning_rate)
    return settings.model_copy(update={"arms": arms})


def tell_edges(sweep: Sweep) -> Iterator[str]:
    """Say where the learning rate is the first or last that was tried, or not the best of them."""
    for arm, trials in sweep.items():
        rates = sorted(trial.learning_rate for trial in trials)
        best = _find_best(trials)
        for trial in trials:
            if trial.chosen and trial.learning_rate != best:
                yield (
                    f"{arm}: keeps the learning rate {trial.learning_rate:g}, which its runs were "
                    "begun with; it is not the one with the lowest loss on the tuning pictures"
                )
            elif trial.chosen and trial.learning_rate in (rates[0], rates[-1]):
                side = "lowest" if trial.learning_rate == rates[0] else "highest"
                yield (
                    f"{arm}: the best learning rate, {trial.learning_rate:g}, is the {side} that "
                    "was tried: a better one may lie beyond"
                )


def _failure_file(trial: Trial) -> Path:
    path = trial.folder.path
    return path.with_name(f"{path.name}.failure.json")


def _begun_rate(arm: str, settings: ComparisonSettings, folder: ComparisonFolder) -> float | None:
    """Return the learning rate that the arm's runs were begun with; None: none has begun."""
    runs = (folder.run(arm, seed) for seed in settings.seeds)
    begun = next((run for run in runs if run.is_begun), None)
    return begun.read_settings().training.learning_rate if begun else None


def _rates(sweep: SweepSettings, begun: float | None) -> list[float]:
    """List the rates of the sweep, and the one that has been settled on if it is none of them."""
    settled = [begun] if begun is not None and begun not in sweep.learning_rate else []
    return [*sweep.learning_rate, *settled]


def _settle(arm: RunSettings, rate: float, sweep: SweepSettings) -> RunSettings:
    tree = _with_rate(arm, rate).model_dump()
    tree["seed"] = sweep.seed
    tree["training"]["steps"] = sweep.steps or arm.training.steps
    tree["evaluation"] |= {
        "split": "tuning",
        "pictures": arm.evaluation.tuning_pictures,
        "checkpoint_pictures": 0,
    }
    try:
        return RunSettings.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"sweep: {describe_errors(error, RunSettings)}") from error


def _with_rate(arm: RunSettings, rate: float) -> RunSettings:
    training = arm.training.model_copy(update={"learning_rate": rate})
    return arm.model_copy(update={"training": training})


def _read(trial: Trial, failure: str | None) -> SweepTrial:
    if failure is not None or not trial.is_finished:
        reason = failure or trial.failure or _explain_absence(trial)
        return SweepTrial(learning_rate=trial.learning_rate, status="failed", reason=reason)
    loss = read_record(RunSummary, trial.folder.summary_file).held_out_loss
    assert loss is not None, "a finished run has one"
    return SweepTrial(
        learning_rate=trial.learning_rate,
        status="finished",
        tuning_loss=loss.adapted,
        standard_error=loss.adapted_standard_error,
        n=loss.n,
    )


def _explain_absence(trial: Trial) -> str:
    if trial.begun_rate is None:
        return "not tried yet"
    return f"not tried: the arm's runs had begun with {trial.begun_rate:g}"


def _mark_chosen(trials: list[SweepTrial], begun: float | None) -> list[SweepTrial]:
    chosen = _find_best(trials) if begun is None else begun
    return [t.model_copy(update={"chosen": t.learning_rate == chosen}) for t in trials]


def _find_best(trials: list[SweepTrial]) -> float | None:
    """Return the rate with the lowest loss; None where no trial has one."""
    losses = {t.learning_rate: t.tuning_loss for t in trials if t.tuning_loss is not None}
    return min(losses, key=losses.__getitem__, default=None)
