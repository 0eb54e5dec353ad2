"""What `dataset.source` may name, and who reads it."""

import logging
from pathlib import Path

from rasengan_xl.dataset.embedded import EMBEDDED, open_embedded
from rasengan_xl.dataset.folders import read_folder
from rasengan_xl.dataset.hub import is_hub_id, read_hub
from rasengan_xl.dataset.pictures import Source
from rasengan_xl.dataset.tables import holds_parquet, read_parquet
from rasengan_xl.errors import DatasetError

logger = logging.getLogger(__name__)


def open_source(
    source: str,
    *,
    revision: str | None = None,
    split: str = "train",
    image_column: str | None = None,
    caption_column: str | None = None,
) -> Source:
    """Open a dataset and read every picture once, to know it by its content.

    Args:
        source: `mini`, a folder of pictures or of parquet files, a parquet file, or a hub id.
            What exists on this machine goes before a hub id of the same name.
        revision: Branch, tag or commit of a hub dataset.
        split: Of a hub dataset or of parquet files.
        image_column: Of a table; found by its name if not told.
        caption_column: Of a table or of metadata files; found by its name if not told.

    Raises:
        DatasetError: There is no such dataset, or it is empty or holds something unusable.
    """
    path = Path(source).expanduser()
    if source != EMBEDDED and not path.exists() and is_hub_id(source):
        return read_hub(
            source,
            revision=revision,
            split=split,
            image_column=image_column,
            caption_column=caption_column,
        )
    if revision is not None:
        logger.warning("%s is no hub dataset: its revision %s is ignored", source, revision)
    if source == EMBEDDED:
        return open_embedded()
    if not path.exists():
        raise DatasetError(
            f"{source}: no such file or folder, and not a hub id (owner/name): check dataset.source"
        )
    if holds_parquet(path):
        return read_parquet(
            path,
            name=source,
            split=split,
            image_column=image_column,
            caption_column=caption_column,
        )
    if not path.is_dir():
        raise DatasetError(
            f"{source}: neither a folder nor a .parquet file: unpack it and name the folder"
        )
    return read_folder(path, name=source, caption_column=caption_column)
