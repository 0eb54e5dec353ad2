"""What `dataset.source` may name, and who reads it."""

import logging
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import datasets

from rasengan_xl.config.dataset_settings import DatasetSettings
from rasengan_xl.errors import DatasetError
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sources.archives import list_archives
from rasengan_xl.sources.candidates import Listing
from rasengan_xl.sources.embedded import EMBEDDED, open_embedded
from rasengan_xl.sources.folders import list_folder
from rasengan_xl.sources.hub import is_hub_id, list_hub
from rasengan_xl.sources.names import one_line, printable
from rasengan_xl.sources.pictures import Source
from rasengan_xl.sources.remote import is_address, mirror
from rasengan_xl.sources.saved import is_saved_dataset, load_saved
from rasengan_xl.sources.scanning import scan_pictures
from rasengan_xl.sources.shards import Shards, find_shards, load_rows
from rasengan_xl.sources.streams import list_stream
from rasengan_xl.sources.tables import list_rows

logger = logging.getLogger(__name__)


def open_source(
    settings: DatasetSettings, caption_origin: str = "files"
) -> Generator[StageProgress, None, Source]:
    """Open a dataset and look at every picture once: each is used, or skipped with a reason.

    What exists on this machine goes before a hub id of the same name.

    Args:
        settings: Name the source, and what of it is read.
        caption_origin: `files`, or `folder_name` for a folder of pictures whose sub-folders are
            named by what they show.

    Raises:
        DatasetError: There is no such dataset, its files contradict one another or are damaged
            as a whole, or nothing in it can be used.
    """
    by_folder_name = caption_origin == "folder_name"
    source = settings.source
    if source == EMBEDDED:
        _refuse_folder_names(source, wanted=by_folder_name)
        _warn_of_ignored(settings)
        return open_embedded()
    path = Path(source).expanduser()
    if is_address(source):
        path = yield from mirror(source)
    if not is_address(source) and is_hub_id(source) and not _exists(path, source):
        _refuse_folder_names(source, wanted=by_folder_name)
        return (yield from scan_pictures(list_hub(settings)))
    _warn_of_ignored(settings)
    return (yield from scan_pictures(_list_local(path, settings, by_folder_name=by_folder_name)))


def _list_local(path: Path, settings: DatasetSettings, *, by_folder_name: bool) -> Listing:
    source = settings.source
    if not source or not _exists(path, source):
        raise DatasetError(
            f"{printable(source)}: no such file or folder, and not a hub id (owner/name): "
            "check dataset.source"
        )
    if path.is_dir() and is_saved_dataset(path):
        _refuse_folder_names(source, wanted=by_folder_name)
        return list_rows(load_saved(path, source, settings.split), settings, path)
    if shards := find_shards(path, settings.split):
        _refuse_folder_names(source, wanted=by_folder_name)
        return _list_shards(shards, settings)
    if not path.is_dir():
        raise DatasetError(
            f"{source}: neither a folder nor a .parquet, .arrow or .tar file: "
            "unpack it and name the folder"
        )
    if settings.split != "train":
        logger.warning(
            "%s is a folder of pictures: all of it is read, whatever the split %s",
            source,
            settings.split,
        )
    return list_folder(
        path,
        name=source,
        caption_column=settings.caption_column,
        by_folder_name=by_folder_name,
    )


def _list_shards(shards: Shards, settings: DatasetSettings) -> Listing:
    if shards.suffix == ".tar":
        return list_archives(shards, settings)
    rows = load_rows(shards, settings)
    folder = shards.files[0].parent
    if isinstance(rows, datasets.Dataset):
        listing = list_rows(rows, settings, folder)
    else:
        # Relative paths in its cells would name other files, whose changes the key does not show.
        listing = list_stream(rows, settings, content_key=None, folder=folder)
    return replace(listing, ignored=shards.ignored)


def _exists(path: Path, source: str) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as fault:
        raise DatasetError(
            f"{printable(source)}: cannot be opened ({one_line(fault)}): check dataset.source"
        ) from fault
    return True


def _warn_of_ignored(settings: DatasetSettings) -> None:
    for key in ("revision", "config"):
        if told := getattr(settings, key):
            logger.warning("%s is no hub dataset: its %s %s is ignored", settings.source, key, told)


def _refuse_folder_names(source: str, *, wanted: bool) -> None:
    if wanted:
        raise DatasetError(
            f"{source}: no folder of pictures, so that no folder's name can be their caption: "
            'set caption.origin="files"'
        )
