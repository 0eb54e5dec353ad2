"""Say in one line what is wrong with a recipe."""

import difflib
import types
from collections.abc import Iterable
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError


def describe_errors(error: ValidationError, kind: type[BaseModel]) -> str:
    """Name each wrong key, its value and the remedy, in one line."""
    items = error.errors()
    wrong_items = {item["loc"][:-1] for item in items}
    # pydantic leaves wrong items out before it counts: that too few are left is no fault besides.
    told = (i for i in items if not (i["type"] == "too_short" and i["loc"] in wrong_items))
    return "; ".join(_describe(item, kind) for item in told)


def closest(name: str, known: Iterable[str]) -> str:
    """Return ", did you mean ...?" if a known name resembles this one, else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _describe(item: Any, kind: type[BaseModel]) -> str:
    path = [str(part) for part in item["loc"]]
    key = ".".join(path)
    if item["type"] == "extra_forbidden":
        known = _keys_at(kind, path[:-1])
        listed = "" if len(known) > 12 else f" (keys here: {', '.join(known)})"
        return f"{key}: no such key{closest(path[-1], known) or listed}"
    if item["type"] == "missing":
        return f"{key}: missing"
    message = item["msg"].removeprefix("Value error, ")
    if not key or isinstance(item["input"], dict):
        return f"{key}: {message}" if key else message
    return f"{key} = {item['input']!r}: {message}"


def _keys_at(kind: type[BaseModel], path: list[str]) -> list[str]:
    """List the keys of the table that a path of keys leads to."""
    for part in path:
        field = kind.model_fields.get(part)
        model = _model_in(field.annotation) if field else None
        if model is None:
            return []
        kind = model
    return list(kind.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {Union, types.UnionType}:
        found = (_model_in(choice) for choice in get_args(annotation))
        return next((model for model in found if model), None)
    return None
