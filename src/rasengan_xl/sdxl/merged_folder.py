"""Write a base model with a change merged into it as a diffusers folder."""

import json
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch

from rasengan_xl.errors import ModelError
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.merged_weights import (
    MERGE,
    Change,
    MergedModel,
    MergedWeights,
    refuse_existing,
)
from rasengan_xl.sdxl.model_folder import (
    TEXT_ENCODERS,
    TOKENIZERS,
    WEIGHTED_PARTS,
    ModelFolder,
    read_model_index,
    read_scheduler_config,
)
from rasengan_xl.sdxl.noise_schedule import check_sampler_rescales
from rasengan_xl.tensor_stream import PlannedTensor, refuse_full_disk, stream_tensors
from rasengan_xl.whole_file import drafted_folder, write_bytes_whole, write_whole

SHARD_BYTES = 5 * 2**30
"""Longest file of weights: SDXL's UNet is one in 16 bits, and two in 32."""

_PRECISION_KEYS = ("dtype", "torch_dtype")
"""By which transformers chooses the precision to load in."""


def write_diffusers_folder(
    model: ModelFolder,
    change: Change,
    folder: Path,
    dtype: torch.dtype,
    metadata: Mapping[str, str],
    *,
    zero_terminal_snr: bool = False,
) -> Generator[StageProgress, None, MergedModel]:
    """Write a merged model as a diffusers folder, a tensor at a time.

    Args:
        model: The base.
        change: What to merge.
        folder: Where to; closing the generator early leaves nothing there.
        dtype: Precision of UNet and text encoders; the VAE keeps its own.
        metadata: Texts for the header of each file of weights.
        zero_terminal_snr: The adapter was trained to begin from pure noise: so the scheduler of
            the folder does.

    Raises:
        AdapterError: The change does not fit the base, or is not finite.
        ModelError: The base cannot be read, or its sampler cannot begin from pure noise.
        OutputError: Something is there already, a weight is beyond `dtype`, or it cannot be
            written.
    """
    refuse_existing(folder)
    weights = MergedWeights(model, change, dtype)
    planned = {part: _plan(part, weights) for part in WEIGHTED_PARTS}
    total = sum(map(len, planned.values()))
    refuse_full_disk(folder, sum(t.nbytes for tensors in planned.values() for t in tensors))
    done = 0
    with drafted_folder(folder) as draft:
        _copy_what_is_no_weight(model, draft, dtype)
        if zero_terminal_snr:
            _begin_from_pure_noise(model, draft)
        yield StageProgress(stage=MERGE, done=done, total=total)
        for part, tensors in planned.items():
            for _ in _write_part(part, tensors, weights, draft, metadata):
                done += 1
                yield StageProgress(stage=MERGE, done=done, total=total)
    return MergedModel(path=folder, tensors=total, changed=tuple(weights.changed))


def _plan(part: str, weights: MergedWeights) -> list[PlannedTensor]:
    return [
        PlannedTensor(
            name=name.removeprefix(f"{part}."),
            shape=weights.stored.describe(name).shape,
            dtype=weights.dtype(name),
        )
        for name in weights.stored.names(part)
    ]


def _write_part(
    part: str,
    tensors: list[PlannedTensor],
    weights: MergedWeights,
    folder: Path,
    metadata: Mapping[str, str],
) -> Iterator[str]:
    stem = "model" if part in TEXT_ENCODERS else "diffusion_pytorch_model"
    shards = _split(tensors)
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        count = f"-{number:05}-of-{len(shards):05}" if len(shards) > 1 else ""
        name = f"{stem}{count}.safetensors"
        places |= {tensor.name: name for tensor in shard}
        yield from stream_tensors(
            folder / part / name, shard, lambda key: weights.read(f"{part}.{key}"), metadata
        )
    if len(shards) > 1:
        size = sum(tensor.nbytes for tensor in tensors)
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
        write_whole(folder / part / f"{stem}.safetensors.index.json", json.dumps(index, indent=2))


def _split(tensors: list[PlannedTensor]) -> list[list[PlannedTensor]]:
    """Fill shard after shard, in the order of the base."""
    shards: list[list[PlannedTensor]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.nbytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.nbytes
    return shards


def _copy_what_is_no_weight(model: ModelFolder, draft: Path, dtype: torch.dtype) -> None:
    names = ["model_index.json", *(f"{part}/config.json" for part in WEIGHTED_PARTS)]
    for folder in (*TOKENIZERS, "scheduler"):
        files = (file for file in (model.path / folder).iterdir() if file.is_file())
        names += [f"{folder}/{file.name}" for file in sorted(files)]
    for name in names:
        try:
            content = (model.path / name).read_bytes()
        except OSError as error:
            raise ModelError(f"{model.path / name}: cannot be read ({error})") from error
        write_bytes_whole(draft / name, content)
    for part in TEXT_ENCODERS:
        file = draft / part / "config.json"
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for key in _PRECISION_KEYS:
            if key in config:
                config[key] = str(dtype).removeprefix("torch.")
        write_whole(file, json.dumps(config, indent=2))


def _begin_from_pure_noise(model: ModelFolder, draft: Path) -> None:
    """Set the scheduler as `arXiv:2305.08891`, sections 3.1 and 3.3, asks."""
    check_sampler_rescales(getattr(diffusers, read_model_index(model)["scheduler"][1]))
    config = read_scheduler_config(model)
    config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    write_whole(draft / "scheduler" / "scheduler_config.json", json.dumps(config, indent=2))
