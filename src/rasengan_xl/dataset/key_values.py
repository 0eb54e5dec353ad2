"""The base's keys and values of captions, computed once and kept beside the captions.

They depend on the caption and on frozen weights alone, so a run that has them needs those weights
no more: 140 layers of SDXL's, whose products are 166,400 numbers for each of 77 tokens.
"""

import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rasengan_xl.cache_folder import cache_folder
from rasengan_xl.config.base_precisions import BasePrecision
from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.encoded import EncodedDataset, EncodedPictures
from rasengan_xl.dataset.encoding import find_store, free_memory
from rasengan_xl.dataset.shared_work import Part, fill_store
from rasengan_xl.dataset.store import FULL_SHARD_BYTES, ShardWriter, TensorStore
from rasengan_xl.engine.caption_columns import caption_columns, count_columns
from rasengan_xl.engine.projections import Projections
from rasengan_xl.engine.weights import read_weight
from rasengan_xl.errors import DeviceError
from rasengan_xl.ranks import ALONE, Ranks
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.components import load_unet_shape
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import TEXT_ENCODERS, TOKENIZERS, ModelFolder
from rasengan_xl.sdxl.quantization import hold_back
from rasengan_xl.sdxl.stored_weights import StoredWeights

STAGE = "encode keys and values"
KEY_VALUES = "key_values"
_FORMAT = 1
"""Raised when the way of encoding changes, so that older entries are not taken for new ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What keys and values are computed with."""

    model: ModelFolder
    precision: BasePrecision
    compute: Compute
    columns: Mapping[str, range]


def encode_key_values(
    dataset: EncodedDataset,
    settings: RunSettings,
    model: ModelFolder,
    compute: Compute,
    ranks: Ranks = ALONE,
) -> Generator[StageProgress, None, EncodedDataset]:
    """Compute what is not in the store yet of each caption, and return the dataset with it.

    Of the UNet, only the weights that take part are read.

    Raises:
        DeviceError: The disk has not enough room.
    """
    pictures, precision = dataset.train, settings.adapter.base_precision
    columns = caption_columns(load_unet_shape(model))
    base = _Base(model=model, precision=precision, compute=compute, columns=columns)
    identity = model.identity((*TOKENIZERS, *TEXT_ENCODERS, "unet"))
    store = find_store(
        "key_values",
        (KEY_VALUES,),
        _FORMAT,
        identity,
        precision,
        compute.device.type,
        compute.dtype,
    )

    def encode(missing: list[str], part: Part) -> Iterator[StageProgress]:
        room = _check_room(store.folder, missing, pictures, base)
        yield StageProgress(stage=STAGE, done=0, total=len(missing), note=room)
        yield from _encode(missing[part.index :: part.count], store, pictures, base)

    yield from fill_store(store, _list_captions(dataset), encode, ranks)
    return replace(
        dataset,
        train=replace(dataset.train, key_values=store),
        held_out=replace(dataset.held_out, key_values=store),
    )


def free_bytes() -> int:
    """Return how much room there is for what is kept of captions."""
    folder = cache_folder().absolute()
    here = next(each for each in (folder, *folder.parents) if each.exists())
    return max(0, shutil.disk_usage(here).free - FULL_SHARD_BYTES)


def bytes_of_a_caption(tokens: int, columns: Mapping[str, range], dtype: torch.dtype) -> int:
    """Return what the keys and values of a caption take."""
    return tokens * count_columns(columns) * dtype.itemsize


def count_captions(dataset: EncodedDataset) -> int:
    """Count the captions whose keys and values a run needs, the empty one among them."""
    return len(_list_captions(dataset))


def _list_captions(dataset: EncodedDataset) -> list[str]:
    """Return the keys of captions: what is trained on, what is measured with, and none."""
    trained = {wording for picture in dataset.train.pictures for wording in picture.wordings}
    measured = {picture.wordings[0] for picture in dataset.held_out.pictures}
    return sorted({*trained, *measured, dataset.train.null_key})


def _check_room(
    folder: Path, missing: Sequence[str], pictures: EncodedPictures, base: _Base
) -> str:
    """Say what the disk must hold; refuse if it cannot."""
    tokens = pictures.null_prompt.states.shape[1]
    wanted = len(missing) * bytes_of_a_caption(tokens, base.columns, base.compute.dtype)
    free = free_bytes()
    told = f"keys and values of {len(missing):,} captions take {_write_size(wanted)} in {folder}"
    if wanted > free:
        raise DeviceError(
            f"engine.cache_text_kv = true: {told}, whose disk has {_write_size(free)} left: make "
            "room, name another folder with RASENGAN_CACHE, or leave it out"
        )
    return told


def _encode(
    keys: Sequence[str], store: TensorStore, pictures: EncodedPictures, base: _Base
) -> Iterator[StageProgress]:
    """One caption at a time, so that an entry does not depend on what else was missing."""
    groups = _load_groups(base)
    device, dtype = base.compute.device, base.compute.dtype
    with closing(ShardWriter(store.folder)) as writer, torch.no_grad():
        for done, key in enumerate(keys, start=1):
            states = pictures.prompt_of(key).states[0].to(device, dtype)
            products = [group.project(states)[0] for group in groups]
            writer.add(key, {KEY_VALUES: torch.cat(products, dim=1).cpu()})
            yield StageProgress(stage=STAGE, done=done, total=len(keys))
    del groups
    free_memory()


def _load_groups(base: _Base) -> list[Projections]:
    """Load the layers, those of one width as one product, as a UNet has them."""
    shapes, stored = load_unet_shape(base.model), StoredWeights(base.model)
    groups: list[Projections] = []
    for _, names in groupby(base.columns, key=lambda name: len(base.columns[name])):
        members = list(names)
        layers = [
            _load(n, cast("nn.Linear", shapes.get_submodule(n)), stored, base) for n in members
        ]
        groups.append(Projections(layers, None, members))
    return groups


def _load(name: str, shape: nn.Linear, stored: StoredWeights, base: _Base) -> nn.Linear:
    """Load a layer, rounded as its base precision has it, to multiply by on the device."""
    dtype, device = base.compute.dtype, base.compute.device
    layer = nn.Linear(shape.in_features, shape.out_features, bias=False, device="meta")
    layer.weight = _frozen(stored.read(f"unet.{name}.weight").to(dtype))
    rounded = read_weight(hold_back(layer, base.compute, base.precision))
    layer.weight = _frozen(rounded.to(device))
    if cast("Tensor | None", shape.bias) is not None:
        layer.bias = _frozen(stored.read(f"unet.{name}.bias").to(device, dtype))
    return layer


def _frozen(weight: Float[Tensor, "..."]) -> nn.Parameter:
    return nn.Parameter(weight, requires_grad=False)


def _write_size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
