"""Find each arm's learning rate: the one with the lowest loss on the tuning pictures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from rasengan_xl.comparison.layout import ComparisonFolder
from rasengan_xl.comparison.plan import refuse_changes
from rasengan_xl.comparison.result import SweepTrial
from rasengan_xl.config.comparison_settings import ComparisonSettings, SweepSettings
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.config.wording import describe_errors
from rasengan_xl.errors import RecipeError
from rasengan_xl.runs.folder import RunFolder, read_record
from rasengan_xl.runs.records import RunSummary

Sweep = dict[str, list[SweepTrial]]
"""By name of the arm, one trial for each learning rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One learning rate to be tried for one arm."""

    arm: str
    learning_rate: float
    settings: RunSettings
    folder: RunFolder

    @property
    def name(self) -> str:
        """What the trial is called."""
        return f"{self.arm} at {self.learning_rate:g}"


def list_trials(settings: ComparisonSettings, folder: ComparisonFolder) -> list[Trial]:
    """List every trial; none if the comparison has no sweep.

    Raises:
        RecipeError: A trial's settings are not allowed.
        OutputError: A trial that lies here was made with other settings.
    """
    if settings.sweep is None:
        return []
    trials = [
        Trial(
            arm=name,
            learning_rate=rate,
            settings=_settle(arm, rate, settings.sweep),
            folder=folder.trial(name, rate),
        )
        for name, arm in settings.arms.items()
        for rate in settings.sweep.learning_rate
    ]
    for trial in trials:
        if trial.folder.is_begun:
            refuse_changes(trial.folder, trial.settings)
    return trials


def choose_rates(trials: list[Trial], failures: Mapping[str, str]) -> Sweep:
    """Mark, for each arm, the trial with the lowest loss on the tuning pictures.

    Args:
        trials: All of them.
        failures: Why a trial failed, by its name.
    """
    sweep: Sweep = {}
    for trial in trials:
        sweep.setdefault(trial.arm, []).append(_read(trial, failures.get(trial.name)))
    return {arm: _mark_best(found) for arm, found in sweep.items()}


def settle_rates(settings: ComparisonSettings, sweep: Sweep) -> ComparisonSettings:
    """Give every arm the learning rate that was chosen for it; one without stays as it is."""
    arms = dict(settings.arms)
    for name, trials in sweep.items():
        for trial in trials:
            if trial.chosen:
                arms[name] = _with_rate(arms[name], trial.learning_rate)
    return settings.model_copy(update={"arms": arms})


def tell_edges(sweep: Sweep) -> Iterator[str]:
    """Say where the best learning rate is the first or last that was tried."""
    for arm, trials in sweep.items():
        rates = sorted(trial.learning_rate for trial in trials)
        for trial in trials:
            if trial.chosen and trial.learning_rate in (rates[0], rates[-1]):
                side = "lowest" if trial.learning_rate == rates[0] else "highest"
                yield (
                    f"{arm}: the best learning rate, {trial.learning_rate:g}, is the {side} that "
                    "was tried: a better one may lie beyond"
                )


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
    if failure is not None or not trial.folder.is_finished:
        reason = failure or "not tried yet"
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


def _mark_best(trials: list[SweepTrial]) -> list[SweepTrial]:
    losses = {t.learning_rate: t.tuning_loss for t in trials if t.tuning_loss is not None}
    best = min(losses, key=losses.__getitem__, default=None)
    return [t.model_copy(update={"chosen": t.learning_rate == best}) for t in trials]
