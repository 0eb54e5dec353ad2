"""Turn a recipe file and ``--set`` overrides into the settings of one run.

A recipe is TOML.  Its key `extends` names recipes whose keys come first, in order; the
recipe's own keys come after them, and overrides last.
"""

import json
import tomllib
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeGuard, cast

from pydantic import ValidationError

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.config.shipped import RECIPES, find_recipe
from rasengan_xl.config.wording import describe_errors
from rasengan_xl.errors import RecipeError

Tree = dict[str, Any]


def load_recipe(name: str, overrides: Sequence[str] = ()) -> RunSettings:
    """Read a recipe, lay the overrides over it, and validate the result.

    Args:
        name: A TOML file, or the name of a shipped recipe.
        overrides: `dotted.key=value` items; the value is TOML, or else a plain string.

    Raises:
        RecipeError: The file is unreadable, or a key or value is not allowed.
    """
    file = find_recipe(name)
    tree = resolve_extends(read_toml(file), file)
    for override in overrides:
        lay_over(tree, parse_override(override))
    return validate_run(tree, str(file))


def validate_run(tree: Tree, origin: str) -> RunSettings:
    """Turn keys and values into settings; `origin` names their source in errors."""
    try:
        return RunSettings.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{origin}: {describe_errors(error, RunSettings)}") from error


def read_toml(file: Path) -> Tree:
    """Read a TOML file, or say in one line why that cannot be done."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{file}: {error}") from error


def resolve_extends(tree: Tree, file: Path, seen: tuple[Path, ...] = ()) -> Tree:
    """Replace the key `extends` by the contents of what it names.

    Args:
        tree: Keys and values, possibly with `extends`; not changed.
        file: Where they stand; names in `extends` are looked up beside it first.
        seen: Files that lead here, to refuse a circle.
    """
    if file in seen:
        raise RecipeError(f"{file}: extends itself by way of {seen[-1]}")
    own = dict(tree)
    resolved: Tree = {}
    for name in names_to_extend(own, file):
        other = find_recipe(name, RECIPES, near=file.parent)
        lay_over(resolved, resolve_extends(read_toml(other), other, (*seen, file)))
    lay_over(resolved, own)
    return resolved


def names_to_extend(tree: Tree, file: Path) -> list[str]:
    """Take the key `extends` out of a tree, and return the names that it gives, in order.

    Args:
        tree: Keys and values; changed.
        file: Where they stand, for errors.
    """
    named = tree.pop("extends", [])
    names = [named] if isinstance(named, str) else named
    if not _is_list_of_texts(names):
        raise RecipeError(f"{file}: extends = {named!r}: write a recipe's name or a list of them")
    return names


def lay_over(tree: Tree, upper: Tree) -> None:
    """Set every leaf of `upper` in `tree`, making tables where there are none."""
    for key, value in upper.items():
        below, table = as_table(tree.get(key)), as_table(value)
        if below is not None and table is not None:
            lay_over(below, table)
        else:
            tree[key] = deepcopy(value)


def as_table(value: Any) -> Tree | None:
    """Return the value if it is a table, else None."""
    return cast("Tree", value) if isinstance(value, dict) else None


def parse_override(text: str) -> Tree:
    """Turn `adapter.rank=8` into `{"adapter": {"rank": 8}}`."""
    dotted_key, separator, value = text.partition("=")
    keys = dotted_key.strip().split(".")
    if not separator or not all(keys):
        raise RecipeError(f"--set {text!r}: write key=value, for example --set adapter.rank=8")
    tree: Any = _parse_value(value.strip())
    for key in reversed(keys):
        tree = {key: tree}
    return tree


def write_override(key: str, value: str) -> str:
    """Write the item that sets a key to a text, whatever is in it."""
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def overridden_keys(overrides: Sequence[str]) -> set[str]:
    """Return the dotted keys that `dotted.key=value` items set."""
    return {key for override in overrides for key in flatten(parse_override(override))}


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a tree by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        table = as_table(value)
        if table is None:
            flat[f"{prefix}{key}"] = value
        else:
            flat |= flatten(table, f"{prefix}{key}.")
    return flat


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _is_list_of_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(
        isinstance(item, str) for item in cast("list[Any]", value)
    )
