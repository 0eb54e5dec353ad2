"""Which column of a table holds the pictures, and which the captions."""

from collections.abc import Iterable

from rasengan_xl.errors import DatasetError

KNOWN_COLUMNS = {
    "image": ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp"),
    "caption": ("text", "caption", "prompt", "txt", "description", "additional_feature"),
}
"""Names that are recognised, the likeliest first."""


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
    by_lower_name = {column.lower(): column for column in reversed(present)}
    if told is not None and told in present:
        return told
    if told is None:
        for name in KNOWN_COLUMNS[kind]:
            if name in by_lower_name:
                return by_lower_name[name]
    fault = f"no {kind} column is recognised" if told is None else f"there is no column '{told}'"
    raise DatasetError(
        f"{where}: {fault} among {', '.join(present) or 'no columns at all'}: "
        f"name one with --set dataset.{kind}_column=..."
    )
