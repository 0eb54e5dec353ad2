"""Datasets stored as rows: local parquet files, and any table that datasets has loaded."""

import glob
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import datasets
from datasets.exceptions import DatasetsError

from rasengan_xl.dataset.columns import choose_column
from rasengan_xl.dataset.pictures import Candidate, CaptionedPicture, Source, take_pictures
from rasengan_xl.errors import DatasetError

SPLIT_NAMES = frozenset({"train", "test", "validation", "valid", "val", "dev", "eval"})
"""A shard whose name begins with one of these belongs to that split, any other to all."""


def holds_parquet(path: Path) -> bool:
    """Tell whether a path is a parquet file, or a folder of them."""
    if path.is_dir():
        return bool(_find_shards(path))
    return path.suffix.lower() == ".parquet"


def read_parquet(
    path: Path,
    *,
    name: str,
    split: str,
    image_column: str | None,
    caption_column: str | None,
) -> Source:
    """Read a parquet file, or the parquet files of a folder as one dataset.

    Args:
        path: The file; or the folder, whose shards named after another split are passed over.
        name: What the user called it.
        split: As for the hub: a name, or a slice of it such as `train[:100]`.
        image_column: Found by its name if not told.
        caption_column: Found by its name if not told.

    Raises:
        DatasetError: The files are damaged, lack a column, or hold something unusable.
    """
    shards, ignored = [path], dict[str, int]()
    if path.is_dir():
        shards, ignored = _choose_shards(path, name, split)
    pictures = take_rows(
        _load_parquet(shards, name, split),
        name,
        image_column=image_column,
        caption_column=caption_column,
        folder=shards[0].parent,
    )
    return Source(name=name, revision=None, pictures=pictures, ignored=ignored)


def take_rows(
    table: datasets.Dataset,
    source: str,
    *,
    image_column: str | None,
    caption_column: str | None,
    folder: Path | None = None,
) -> tuple[CaptionedPicture, ...]:
    """Take a picture from every row of a table, its bytes left where they are.

    Args:
        table: The rows.
        source: What the user called the dataset.
        image_column: Found by its name if not told.
        caption_column: Found by its name if not told.
        folder: What relative paths in the image column start from.

    Raises:
        DatasetError: A column is missing or of the wrong kind, or a row is unusable.
    """
    image = choose_column("image", image_column, table.column_names, source)
    caption = choose_column("caption", caption_column, table.column_names, source)
    captions = list(cast("Iterable[object]", table[caption]))
    if any(not isinstance(words, str | None) for words in captions):
        raise DatasetError(f"{source}: column '{caption}' does not hold text: name another one")
    feature = cast("object", table.features[image])
    pictures = table.select_columns([image])
    if isinstance(feature, datasets.Image):
        pictures = pictures.cast_column(image, datasets.Image(decode=False))
    elif not _may_hold_pictures(feature):
        raise DatasetError(f"{source}: column '{image}' does not hold pictures: name another one")
    return take_pictures(
        (
            Candidate(
                name=f"row {number}",
                caption=cast("str | None", words),
                caption_remedy=f"fill its column '{caption}' or remove the row",
                read=partial(_read_cell, pictures, number, folder),
            )
            for number, words in enumerate(captions)
        ),
        source,
    )


def shorten(fault: BaseException) -> str:
    """Put what another library says into one line."""
    words = " ".join(str(fault).split()) or type(fault).__name__
    return words if len(words) <= 200 else f"{words[:200]}..."


def _find_shards(folder: Path) -> list[Path]:
    # The hub lays shards out in a folder called data.
    return sorted((*folder.glob("*.parquet"), *folder.glob("data/*.parquet")))


def _choose_shards(folder: Path, name: str, split: str) -> tuple[list[Path], dict[str, int]]:
    shards = _find_shards(folder)
    split_name = split.partition("[")[0].lower()
    others = SPLIT_NAMES - {split_name}
    chosen = [shard for shard in shards if re.split(r"[-_.]", shard.stem.lower())[0] not in others]
    if not chosen:
        names = ", ".join(shard.name for shard in shards)
        raise DatasetError(
            f"{name}: no file of the split '{split_name}' among {names}: "
            "name another with --set dataset.split=..."
        )
    files = sum(1 for file in folder.rglob("*") if file.is_file())
    counts = {
        "parquet files of another split": len(shards) - len(chosen),
        "other files": files - len(shards),
    }
    return chosen, {reason: count for reason, count in counts.items() if count}


def _load_parquet(files: Sequence[Path], name: str, split: str) -> datasets.Dataset:
    # Paths are patterns to `datasets`: a folder called "pictures [new]" would match nothing.
    paths = [glob.escape(str(file.resolve())) for file in files]
    try:
        # Goes through an Arrow copy in the user's Hugging Face cache, so that one row can be
        # read without decoding its whole row group.
        return datasets.load_dataset(
            "parquet", data_files={split.partition("[")[0]: paths}, split=split
        )
    except (DatasetsError, OSError, ValueError) as fault:
        raise DatasetError(
            f"{name}: cannot be read as parquet ({shorten(fault.__cause__ or fault)}): replace it"
        ) from fault


def _may_hold_pictures(feature: object) -> bool:
    if isinstance(feature, datasets.Value):
        return feature.dtype in {"binary", "large_binary", "string", "large_string", "null"}
    parts = set(cast("dict[str, object]", feature)) if isinstance(feature, dict) else set[str]()
    return bool(parts & {"bytes", "path"})


def _read_cell(pictures: datasets.Dataset, number: int, folder: Path | None) -> bytes:
    """Return the bytes in the cell of a one-column table, or of the file that the cell names."""
    row = cast("dict[str, object]", pictures[number])
    (cell,) = row.values()
    if isinstance(cell, dict):
        parts = cast("dict[str, object]", cell)
        cell = parts.get("bytes") or parts.get("path")
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, str):
        return Path(folder or "", cell).read_bytes()
    raise OSError("the cell is empty")
