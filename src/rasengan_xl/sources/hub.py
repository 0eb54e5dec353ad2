"""Datasets of the Hugging Face hub, pinned to the commit that was read."""

import re
from dataclasses import replace
from typing import cast

import datasets
import huggingface_hub

from rasengan_xl.config.dataset_settings import DatasetSettings
from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.candidates import Listing
from rasengan_xl.sources.names import one_line
from rasengan_xl.sources.row_ranges import split_name
from rasengan_xl.sources.streams import list_stream
from rasengan_xl.sources.tables import list_rows

_IDENTIFIER = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub_id(source: str) -> bool:
    """Tell whether a name is shaped like `owner/name`."""
    return _IDENTIFIER.fullmatch(source) is not None


def list_hub(settings: DatasetSettings) -> Listing:
    """List a dataset of the hub; what was downloaded before is not downloaded again.

    Args:
        settings: Name the dataset, its configuration, split and columns, and its revision: a
            branch, tag or commit, or else the default branch. A full commit needs no network
            once the dataset is cached.

    Raises:
        DatasetError: The hub cannot be reached or does not give the dataset, or it lacks a
            column or holds something else than pictures and texts there.
    """
    commit = _resolve(settings.source, settings.revision)
    rows = _load(settings, commit)
    if isinstance(rows, datasets.Dataset):
        return replace(list_rows(rows, settings), revision=commit)
    key = f"{settings.source}@{commit}|{settings.config}|{split_name(settings.split)}"
    return replace(list_stream(rows, settings, content_key=key), revision=commit)


def _resolve(identifier: str, revision: str | None) -> str:
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    try:
        commit = huggingface_hub.HfApi().dataset_info(identifier, revision=revision).sha
    # The hub's client has changed its transport twice; the faults share no other base.
    except Exception as fault:
        raise _unavailable(identifier, fault) from fault
    if commit is None:
        raise DatasetError(f"{identifier}: the hub tells no commit: set dataset.revision to one")
    return commit


def _load(settings: DatasetSettings, commit: str) -> datasets.Dataset | datasets.IterableDataset:
    identifier = settings.source
    # A stream is sliced by its reader.
    split = split_name(settings.split) if settings.streaming else settings.split
    try:
        rows = datasets.load_dataset(
            identifier,
            name=settings.config,
            split=split,
            revision=commit,
            streaming=settings.streaming,
        )
    except Exception as fault:  # As above.
        _refuse_config(settings, commit, fault)
        raise _unavailable(identifier, fault) from fault
    # Without network, `datasets` takes the commit it loaded last, whichever was asked for.
    urls = cast("dict[str, object]", rows.info.download_checksums or {})
    if any(f"{identifier}@" in url and commit not in url for url in urls):
        raise DatasetError(
            f"{identifier}: the hub cannot be reached and only another commit than {commit} is "
            "cached: connect, or set dataset.revision to that commit"
        )
    return rows


def _refuse_config(settings: DatasetSettings, commit: str, fault: Exception) -> None:
    """Raise the error for a dataset whose configuration is missing or wrong, if it is that."""
    try:
        names = list(datasets.get_dataset_config_names(settings.source, revision=commit))
    except Exception:  # Not even that: it was something else.
        return
    if settings.config in names or (settings.config is None and len(names) < 2):
        return
    wrong = "has several configurations" if settings.config is None else "has no such configuration"
    told = "" if settings.config is None else f" as '{settings.config}'"
    raise DatasetError(
        f"{settings.source}: {wrong}{told}: choose one of {', '.join(names)} "
        "with --set dataset.config=..."
    ) from fault


def _unavailable(identifier: str, fault: Exception) -> DatasetError:
    return DatasetError(
        f"{identifier}: no such folder here, and the hub does not give it ({one_line(fault)}): "
        "check the name, the split and the network; a private dataset needs `hf auth login`"
    )
