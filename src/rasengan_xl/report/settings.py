"""The settings of the arms: what differs between them, and what all of them share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from rasengan_xl.comparison.result import ArmResult
from rasengan_xl.report.numbers import MISSING, write_plain


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
            return ", ".join(write_setting(item) for item in cast("list[object]", value)) or "none"
        case _:
            return str(value)
