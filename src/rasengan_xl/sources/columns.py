"""Which column of a table holds the pictures, which the captions, and which the class."""

from collections.abc import Iterable
from dataclasses import dataclass

from rasengan_xl.config.dataset_settings import DatasetSettings
from rasengan_xl.errors import DatasetError

KNOWN_COLUMNS = {
    "image": ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp"),
    "caption": ("text", "caption", "prompt", "txt", "description", "additional_feature"),
    "class": ("label", "class", "category"),
}
"""Names that are recognised, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table that are read."""

    image: str
    caption: str
    class_name: str | None


def choose_columns(settings: DatasetSettings, columns: Iterable[str], where: str) -> Columns:
    """Return the columns that were told, or else the first ones with known names.

    Raises:
        DatasetError: There is none for the pictures, or none for the captions.
    """
    present = list(columns)
    return Columns(
        image=choose_column("image", settings.image_column, present, where),
        caption=choose_column("caption", settings.caption_column, present, where),
        class_name=find_column("class", present),
    )


def choose_column(kind: str, told: str | None, columns: Iterable[str], where: str) -> str:
    """Return the column that was told, or else the first one with a known name.

    Args:
        kind: A key of `KNOWN_COLUMNS`.
        told: The column the user named, if any.
        columns: The columns that there are.
        where: The file or dataset, for the error.

    Raises:
        DatasetError: There is no such column.
    """
    present = list(columns)
    found = find_column(kind, present) if told is None else told
    if found in present:
        return found
    fault = f"no {kind} column is recognised" if told is None else f"there is no column '{told}'"
    raise DatasetError(
        f"{where}: {fault} among {', '.join(present) or 'no columns at all'}: "
        f"name one with --set dataset.{kind}_column=..."
    )


def find_column(kind: str, columns: Iterable[str]) -> str | None:
    """Return the first column with a known name, in any case, if there is one."""
    by_lower_name = {column.lower(): column for column in reversed(list(columns))}
    return next((by_lower_name[n] for n in KNOWN_COLUMNS[kind] if n in by_lower_name), None)
