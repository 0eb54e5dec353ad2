"""The settings of the arms: what differs between them, and what all of them share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from rasengan_xl.comparison.result import ArmResult
from rasengan_xl.report.numbers import MISSING, write_count, write_counted, write_plain

MOST_LISTED = 8
"""Values of a setting that is a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A setting that is not the same in all arms, with its value in each."""

    key: str
    values: list[str]


def list_differences(arms: Sequence[ArmResult]) -> list[Difference]:
    """List every differing setting, one value per arm."""
    flat = [flatten(arm.differs) for arm in arms]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    return [
        Difference(
            key=key,
            values=[write_setting(each[key]) if key in each else MISSING for each in flat],
        )
        for key in keys
    ]


def group_shared(arms: Sequence[ArmResult]) -> dict[str, dict[str, str]]:
    """Group the settings that all arms share by their section, the part before the first dot."""
    if not arms:
        return {}
    first, *others = [flatten(arm.settings) for arm in arms]
    groups: dict[str, dict[str, str]] = {}
    for key, value in first.items():
        if all(key in other and other[key] == value for other in others):
            section, _, name = key.rpartition(".")
            groups.setdefault(section, {})[name] = write_setting(value)
    return dict(sorted(groups.items()))


def flatten(settings: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """Name every setting by its dotted key, as `--set` takes it."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{section}.{name}" if section else name
        if isinstance(value, Mapping) and value:
            flat |= flatten(cast("Mapping[str, Any]", value), key)
        else:
            flat[key] = value
    return flat


def write_setting(value: object) -> str:
    """Write a value the way a recipe does, but without quotes."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case float():
            return write_plain(value)
        case list() | tuple():
            return _write_list(cast("list[object]", value))
        case _:
            return str(value)


def _write_list(values: Sequence[object]) -> str:
    """Write a list; of an arm that starts from another adapter it may name hundreds of layers."""
    if values and isinstance(values[0], Mapping):
        return _write_layer_shapes(cast("Sequence[Mapping[str, Any]]", values))
    written = [write_setting(each) for each in values[:MOST_LISTED]]
    if len(values) > MOST_LISTED:
        written.append(f"and {write_count(len(values) - MOST_LISTED)} more")
    return ", ".join(written) or "none"


def _write_layer_shapes(shapes: Sequence[Mapping[str, Any]]) -> str:
    """Say between what the ranks and alphas of single layers are; settings.json has each."""
    spans = (
        f"{key} {_write_span([float(shape[key]) for shape in shapes])}" for key in ("rank", "alpha")
    )
    return f"{write_counted(len(shapes), 'layer')} of another: {', '.join(spans)}"


def _write_span(values: Sequence[float]) -> str:
    least, most = write_plain(min(values)), write_plain(max(values))
    return least if least == most else f"{least} to {most}"
