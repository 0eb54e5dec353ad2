"""Datasets stored as a few large local files: which of them are asked for, and their rows."""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from rasengan_xl.config.dataset_settings import DatasetSettings
from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.folder_captions import PICTURE_SUFFIXES
from rasengan_xl.sources.folder_walk import walk_folder
from rasengan_xl.sources.names import one_line, printable
from rasengan_xl.sources.row_ranges import split_name

SHARD_SUFFIXES = (".parquet", ".arrow", ".tar")
SPLIT_NAMES = frozenset({"train", "test", "validation", "valid", "val", "dev", "eval"})
"""A shard whose name begins with one of these belongs to that split, any other to all."""
_arrow, _parquet = cast("Any", pa), cast("Any", pq)  # without types


@dataclass(frozen=True, slots=True)
class Shards:
    """The files of one format that hold a split."""

    suffix: str
    files: Sequence[Path]
    ignored: dict[str, int]
    """How many other files lie in their folder, by kind."""


def find_shards(path: Path, split: str) -> Shards | None:
    """Return the shards at a path, if it is one or is a folder of them.

    Args:
        path: A file, or a folder with shards in it or in its sub-folder `data`, where the hub
            lays them out. Shards named after another split are passed over.
        split: As told, with or without a slice.

    Raises:
        DatasetError: None of the shards is of the split; or it is not clear what the dataset is,
            as there are several formats, or pictures beside the shards.
    """
    if not path.is_dir():
        suffix = path.suffix.lower()
        return Shards(suffix, [path], {}) if suffix in SHARD_SUFFIXES and path.is_file() else None
    near = sorted(file for file in (*path.glob("*"), *path.glob("data/*")) if _is_shown_file(file))
    shards = [file for file in near if file.suffix.lower() in SHARD_SUFFIXES]
    if not shards:
        return None
    suffixes = {file.suffix.lower() for file in shards}
    places = {file.parent for file in shards}
    pictures = [
        file for file in near if file.suffix.lower() in PICTURE_SUFFIXES and file.parent in places
    ]
    if len(suffixes) > 1 or pictures:
        kinds = " and ".join([*sorted(suffixes), *(["pictures"] if pictures else [])])
        raise DatasetError(
            f"{printable(str(path))}: holds {kinds} side by side: keep one kind of them, "
            "or name a file"
        )
    chosen = _of_split(shards, split)
    num_files = len(walk_folder(path).files)
    (suffix,) = suffixes
    ignored = {
        f"{suffix[1:]} files of another split": len(shards) - len(chosen),
        "other files": num_files - len(shards),
    }
    return Shards(suffix, chosen, {kind: count for kind, count in ignored.items() if count})


def load_rows(
    shards: Shards, settings: DatasetSettings
) -> datasets.Dataset | datasets.IterableDataset:
    """Load parquet or Arrow files as one table, or as a stream of rows.

    Raises:
        DatasetError: A file is damaged, or the split is not understood.
    """
    # Paths are patterns to `datasets`: a folder called "pictures [new]" would match nothing.
    files = [file for file in shards.files if not _is_empty(file)]
    if not files:
        raise DatasetError(f"{settings.source}: the dataset is empty: name one that holds pictures")
    paths = [glob.escape(str(file.resolve())) for file in files]
    name = split_name(settings.split)
    try:
        # A table goes through an Arrow copy in the user's Hugging Face cache, so that one row can
        # be read without decoding its whole row group.
        return datasets.load_dataset(
            shards.suffix[1:],
            data_files={name: paths},
            split=name if settings.streaming else settings.split,
            streaming=settings.streaming,
        )
    # Damage shows as an error of pyarrow, of `datasets` or of Python, as the case may be.
    except Exception as fault:
        raise describe_damage(shards, settings.source, fault.__cause__ or fault) from fault


def describe_damage(shards: Shards, source: str, fault: BaseException) -> DatasetError:
    """Word the error for shards that cannot be read, with the name of the one to blame."""
    culprit = next(filter(_is_damaged, shards.files), None)
    where = source if culprit is None else f"{source}: {printable(culprit.name)}"
    return DatasetError(
        f"{where}: cannot be read as {shards.suffix[1:]} ({one_line(fault)}): replace it"
    )


def _is_empty(file: Path) -> bool:
    """Tell whether a parquet file has no row, which `datasets` takes for damage."""
    try:
        return file.suffix.lower() == ".parquet" and not _parquet.read_metadata(file).num_rows
    except (OSError, ValueError, _arrow.ArrowException):
        return False


def _is_damaged(file: Path) -> bool:
    try:
        batches = (
            _parquet.ParquetFile(file).iter_batches(batch_size=16)
            if file.suffix.lower() == ".parquet"
            else _arrow_batches(file)
        )
        for _ in batches:
            pass
    except (OSError, ValueError, _arrow.ArrowException):
        return True
    return False


def _arrow_batches(file: Path) -> Any:
    try:
        return _arrow.ipc.open_stream(file)
    except ValueError:
        reader = _arrow.ipc.open_file(file)
        return (reader.get_batch(number) for number in range(reader.num_record_batches))


def _is_shown_file(file: Path) -> bool:
    return not file.name.startswith(".") and file.is_file()


def _of_split(shards: Sequence[Path], split: str) -> list[Path]:
    name = split_name(split).lower()
    others = SPLIT_NAMES - {name}
    chosen = [shard for shard in shards if re.split(r"[-_.]", shard.stem.lower())[0] not in others]
    if not chosen:
        raise DatasetError(
            f"{printable(str(shards[0].parent))}: no file of the split '{name}' among "
            f"{', '.join(printable(shard.name) for shard in shards)}: "
            "name another with --set dataset.split=..."
        )
    return chosen
