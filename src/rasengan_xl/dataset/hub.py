"""Datasets of the Hugging Face hub, pinned to the commit that was read."""

import re
from typing import cast

import datasets
import huggingface_hub

from rasengan_xl.dataset.pictures import Source
from rasengan_xl.dataset.tables import shorten, take_rows
from rasengan_xl.errors import DatasetError

_IDENTIFIER = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub_id(source: str) -> bool:
    """Tell whether a name is shaped like `owner/name`."""
    return _IDENTIFIER.fullmatch(source) is not None


def read_hub(
    identifier: str,
    *,
    revision: str | None,
    split: str,
    image_column: str | None,
    caption_column: str | None,
) -> Source:
    """Read a dataset of the hub; what was downloaded before is not downloaded again.

    Args:
        identifier: `owner/name`.
        revision: Branch, tag or commit; the default branch if not told. A full commit needs
            no network once the dataset is cached.
        split: A name, or a slice of it such as `train[:100]`.
        image_column: Found by its name if not told.
        caption_column: Found by its name if not told.

    Raises:
        DatasetError: The hub cannot be reached or does not give the dataset, or it lacks a
            column or holds something unusable.
    """
    commit = _resolve(identifier, revision)
    table = _load(identifier, commit, split)
    pictures = take_rows(
        table, identifier, image_column=image_column, caption_column=caption_column
    )
    return Source(name=identifier, revision=commit, pictures=pictures, ignored={})


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


def _load(identifier: str, commit: str, split: str) -> datasets.Dataset:
    try:
        table = datasets.load_dataset(identifier, split=split, revision=commit)
    except Exception as fault:  # As above.
        raise _unavailable(identifier, fault) from fault
    # Without network, `datasets` takes the commit it loaded last, whichever was asked for.
    urls = cast("dict[str, object]", table.info.download_checksums or {})
    if any(f"{identifier}@" in url and commit not in url for url in urls):
        raise DatasetError(
            f"{identifier}: the hub cannot be reached and only another commit than {commit} is "
            "cached: connect, or set dataset.revision to that commit"
        )
    return table


def _unavailable(identifier: str, fault: Exception) -> DatasetError:
    return DatasetError(
        f"{identifier}: no such folder here, and the hub does not give it ({shorten(fault)}): "
        "check the name, the split and the network; a private dataset needs `hf auth login`"
    )
