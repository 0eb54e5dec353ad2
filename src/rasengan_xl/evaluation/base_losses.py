"""Losses of a base model without adapter: the same for every run, and so measured once."""

import json
from collections.abc import Callable, Generator
from importlib.metadata import version

import torch

from rasengan_xl.config.base_precisions import BasePrecision
from rasengan_xl.dataset.store import content_key
from rasengan_xl.evaluation.held_out import HeldOutTable, Losses
from rasengan_xl.fact_index import FactIndex
from rasengan_xl.ranks import ALONE, Ranks
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import TOKENIZERS, WEIGHTED_PARTS, ModelFolder

_KIND = "held-out losses of a base 1"
"""Its number goes up when the loss is computed otherwise."""


def name_base_losses(
    model: ModelFolder,
    base_precision: BasePrecision,
    table: HeldOutTable,
    most_pictures: int,
    compute: Compute,
) -> str:
    """Name all that the losses of a base depend on.

    Args:
        model: The base.
        base_precision: How its weights are stored.
        table: What it is measured on.
        most_pictures: How many of the table's first pictures.
        compute: Where, and in which precision.
    """
    gpu = torch.cuda.get_device_name(compute.device) if compute.device.type == "cuda" else "cpu"
    return content_key(
        model.identity((*TOKENIZERS, *WEIGHTED_PARTS)),
        base_precision,
        compute.dtype,
        gpu,
        *(version(package) for package in ("torch", "diffusers", "bitsandbytes")),
        table.key(most_pictures),
    )


def recall_or_measure(
    key: str, measure: Callable[[], Generator[StageProgress, None, Losses]], ranks: Ranks = ALONE
) -> Generator[StageProgress, None, Losses]:
    """Return losses that were measured before under this name, or measure them now.

    Args:
        key: As `name_base_losses` gives it.
        measure: Does the work.
        ranks: Every process of the job calls this; the first one remembers.
    """
    known: Losses | None = ranks.first(_recall(key) if ranks.is_first else None)
    if known is not None:
        return known
    losses = yield from measure()
    if ranks.is_first:
        with FactIndex() as index:
            index.put(_KIND, key, json.dumps(losses).encode())
    return losses


def _recall(key: str) -> Losses | None:
    with FactIndex() as index:
        kept = index.get(_KIND, key)
    return json.loads(kept) if kept is not None else None
