"""Turn a comparison file into arms: a base recipe, and named variations laid over it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rasengan_xl.config.comparison_settings import ComparisonSettings
from rasengan_xl.config.designs import refuse_other_than_one_factor
from rasengan_xl.config.recipe import (
    Tree,
    as_table,
    flatten,
    lay_over,
    names_to_extend,
    parse_override,
    read_toml,
    resolve_extends,
    validate_run,
)
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.config.shipped import COMPARISONS, find_recipe
from rasengan_xl.config.wording import describe_errors
from rasengan_xl.errors import RecipeError

_MEASURED_ON = (
    *("base_", "dataset.", "caption.", "evaluation.", "compute."),
    "objective.zero_terminal_snr",
)
_NOT_MEASURED_ON = frozenset({"caption.dropout", "caption.null", "evaluation.checkpoint_pictures"})
_OWN_KEYS = frozenset({*ComparisonSettings.model_fields} - {"arms"})


def load_comparison(name: str, overrides: Sequence[str] = ()) -> ComparisonSettings:
    """Read a comparison, lay the overrides over it, and resolve every arm.

    An override of a run's key (`base_model=...`) holds for every arm, `arms.NAME.key=...` for
    one, and the comparison's own keys (`seeds=[0,1,2]`, `pictures.key=...`) for itself.

    A comparison that `extends` another takes all its tables, and lays its own over them; recipes
    that these extend are then looked up beside the file that was named.

    Args:
        name: A TOML file, or the name of a shipped comparison.
        overrides: `dotted.key=value` items.

    Raises:
        RecipeError: A key or value is not allowed, or arms differ in what `varies` omits.
    """
    file = find_recipe(name, COMPARISONS)
    tree = _read_with_what_it_extends(file)
    base = resolve_extends(tree.pop("base", {}), file)
    arms = {
        arm: resolve_extends(variation, file)
        for arm, variation in _tables(tree.pop("arms", {}), f"{file}: arms").items()
    }
    for override in overrides:
        change = parse_override(override)
        if "arms" in change:
            _override_arm(arms, change["arms"], override)
        elif _OWN_KEYS & change.keys():
            lay_over(tree, change)
        else:
            _refuse_hidden_override(arms, change, override)
            lay_over(base, change)
    resolved = {
        arm: _resolve_arm(base, variation, f"{file}: arms.{arm}") for arm, variation in arms.items()
    }
    try:
        settings = ComparisonSettings.model_validate({**tree, "arms": resolved})
    except ValidationError as error:
        raise RecipeError(f"{file}: {describe_errors(error, ComparisonSettings)}") from error
    check_arms(settings, str(file))
    return settings


def check_arms(settings: ComparisonSettings, origin: str) -> None:
    """Refuse arms that differ in what is not named, cannot be set side by side, or break a design.

    Args:
        settings: The comparison.
        origin: Its source, for errors.

    Raises:
        RecipeError: They do.
    """
    _refuse_undeclared_differences(settings, origin)
    _refuse_different_measures(settings, origin)
    if settings.design == "one-factor":
        refuse_other_than_one_factor(settings.arms)


def differences(arms: dict[str, RunSettings]) -> dict[str, dict[str, Any]]:
    """Return, for each arm, its value of every dotted key that is not the same in all arms."""
    flat = {arm: flatten(settings.model_dump(mode="json")) for arm, settings in arms.items()}
    keys = next(iter(flat.values()))
    varying = [key for key in keys if any(values[key] != keys[key] for values in flat.values())]
    return {arm: {key: values[key] for key in varying} for arm, values in flat.items()}


def _read_with_what_it_extends(file: Path, seen: tuple[Path, ...] = ()) -> Tree:
    if file in seen:
        raise RecipeError(f"{file}: extends itself by way of {seen[-1]}")
    own = read_toml(file)
    tree: Tree = {}
    for name in names_to_extend(own, file):
        below = find_recipe(name, COMPARISONS, near=file.parent)
        lay_over(tree, _read_with_what_it_extends(below, (*seen, file)))
    lay_over(tree, own)
    return tree


def _resolve_arm(base: Tree, variation: Tree, origin: str) -> RunSettings:
    tree: Tree = {}
    lay_over(tree, base)
    lay_over(tree, variation)
    return validate_run(tree, origin)


def _override_arm(arms: dict[str, Tree], change: Any, override: str) -> None:
    for arm, keys in _tables(change, f"--set {override}").items():
        if arm not in arms:
            raise RecipeError(f"--set {override}: no arm {arm!r}; there are {', '.join(arms)}")
        lay_over(arms[arm], keys)


def _refuse_hidden_override(arms: dict[str, Tree], change: Tree, override: str) -> None:
    """An override that an arm's own value hides would be ignored without a word."""
    for key in flatten(change):
        hiding = [arm for arm, variation in arms.items() if key in flatten(variation)]
        if hiding:
            raise RecipeError(
                f"--set {override}: the arms {', '.join(hiding)} set {key} themselves; "
                f"write --set arms.{hiding[0]}.{key}=..."
            )


def _refuse_undeclared_differences(settings: ComparisonSettings, origin: str) -> None:
    for key in next(iter(differences(settings.arms).values())):
        if not any(key == named or key.startswith(f"{named}.") for named in settings.varies):
            raise RecipeError(
                f"{origin}: the arms differ in {key}, which varies = {list(settings.varies)} "
                "does not name: add it there, or make it equal"
            )


def _refuse_different_measures(settings: ComparisonSettings, origin: str) -> None:
    """Arms are judged on the same base, held-out pictures, captions and noise, or not at all."""
    for key in next(iter(differences(settings.arms).values())):
        if key.startswith(_MEASURED_ON) and key not in _NOT_MEASURED_ON:
            raise RecipeError(
                f"{origin}: the arms differ in {key}: their losses and pictures could not be set "
                "side by side; make it equal, or write a comparison for each"
            )


def _tables(value: Any, origin: str) -> dict[str, Tree]:
    tables = as_table(value)
    if tables is None or any(as_table(item) is None for item in tables.values()):
        raise RecipeError(f"{origin}: write one table per arm, [arms.NAME]")
    return tables
