"""A dataset as the UNet sees it: every caption and picture encoded once, before training."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.crops import CropRules
from rasengan_xl.dataset.encoding import encode_captions, encode_pictures
from rasengan_xl.dataset.pictures import CaptionedPicture
from rasengan_xl.dataset.sources import open_source
from rasengan_xl.dataset.split import fingerprint, split_held_out
from rasengan_xl.runs.records import DatasetFacts, StageProgress
from rasengan_xl.sdxl.components import load_tokenizers
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import ModelFolder
from rasengan_xl.sdxl.prompts import count_cut_captions


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPictures:
    """Some of a dataset's pictures, encoded; all tensors lie on the CPU."""

    digests: list[str]
    """Identity of each picture with its caption."""
    means: Float[Tensor, "picture variant channel height width"]
    deviations: Float[Tensor, "picture variant channel height width"]
    """The VAE's posterior of every crop, unscaled."""
    size_numbers: Int[Tensor, "picture variant 6"]
    captions: Int[Tensor, " picture"]
    """Row of each picture's caption in `prompts`."""
    prompts: Float[Tensor, "caption token text_width"]
    pooled_prompts: Float[Tensor, "caption pooled_width"]
    scaling_factor: float
    """What the model's VAE multiplies latents by."""

    def __len__(self) -> int:
        return len(self.digests)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedDataset:
    """What is trained on, what is held out, and an account of both."""

    train: EncodedPictures
    held_out: EncodedPictures
    facts: DatasetFacts


def encode_dataset(
    settings: RunSettings, model: ModelFolder, compute: Compute
) -> Generator[StageProgress, None, EncodedDataset]:
    """Read, split and encode a dataset, or take from the cache what is there already.

    The text encoders go before the VAE comes: they are never in memory together.

    Raises:
        DatasetError: The dataset is unusable, or a picture encodes to something not finite.
    """
    wanted = settings.dataset
    yield StageProgress(stage="read the dataset", done=0, total=1)
    source = open_source(
        wanted.source,
        revision=wanted.revision,
        split=wanted.split,
        image_column=wanted.image_column,
        caption_column=wanted.caption_column,
    )
    train, held_out = split_held_out(
        source.pictures, wanted.held_out_share, wanted.held_out_minimum
    )
    yield StageProgress(stage="read the dataset", done=1, total=1)

    captions = sorted({picture.caption for picture in source.pictures})
    prompts = yield from encode_captions(captions, model, compute)
    rules = CropRules(
        resolution=wanted.resolution,
        policy=wanted.crop,
        crops_per_picture=wanted.crops_per_picture,
        flip=wanted.flip,
        seed=settings.seed if wanted.crop == "random" else 0,
    )
    latents = yield from encode_pictures([*train, *held_out], rules, model, compute)

    tensors = {**prompts, **latents}
    train_rows, held_out_rows = slice(0, len(train)), slice(len(train), None)
    facts = DatasetFacts(
        source=source.name,
        revision=source.revision,
        train=len(train),
        held_out=len(held_out),
        fingerprint=fingerprint(source.pictures),
        skipped=dict(source.ignored),
        upscaled=int(latents["upscaled"].sum()),
        captions_cut=count_cut_captions(captions, load_tokenizers(model)[0]),
    )
    return EncodedDataset(
        train=_gather(train, train_rows, captions, tensors),
        held_out=_gather(held_out, held_out_rows, captions, tensors),
        facts=facts,
    )


def _gather(
    pictures: Sequence[CaptionedPicture],
    rows: slice,
    captions: list[str],
    tensors: dict[str, Tensor],
) -> EncodedPictures:
    row_of = {caption: row for row, caption in enumerate(captions)}
    return EncodedPictures(
        digests=[picture.digest for picture in pictures],
        means=tensors["means"][rows],
        deviations=tensors["deviations"][rows],
        size_numbers=tensors["size_numbers"][rows],
        captions=torch.tensor([row_of[picture.caption] for picture in pictures]),
        prompts=tensors["states"],
        pooled_prompts=tensors["pooled"],
        scaling_factor=float(tensors["scaling_factor"]),
    )
