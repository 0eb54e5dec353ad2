"""Folders that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""

from pathlib import Path

import datasets

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.names import one_line
from rasengan_xl.sources.row_ranges import choose_rows, split_name

_ONE_TABLE, _SPLITS = "state.json", "dataset_dict.json"


def is_saved_dataset(path: Path) -> bool:
    """Tell whether a folder was written by `save_to_disk`."""
    return any((path / name).is_file() for name in (_ONE_TABLE, _SPLITS))


def load_saved(path: Path, source: str, split: str) -> datasets.Dataset:
    """Map a saved dataset into memory; nothing is copied.

    Args:
        path: Its folder.
        source: What the user called it.
        split: One of its splits, or a slice of it; a table without splits takes any name.

    Raises:
        DatasetError: It is damaged, or has no such split.
    """
    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as fault:  # Damage shows as any error of pyarrow, `datasets` or Python.
        raise DatasetError(
            f"{source}: cannot be read as a saved dataset ({one_line(fault)}): save it anew"
        ) from fault
    if isinstance(saved, datasets.DatasetDict):
        name = split_name(split)
        if name not in saved:
            raise DatasetError(
                f"{source}: no split '{name}' among {', '.join(map(str, saved))}: "
                "name another with --set dataset.split=..."
            )
        saved = saved[name]
    rows = choose_rows(split, len(saved))
    return saved if len(rows) == len(saved) else saved.select(rows)
