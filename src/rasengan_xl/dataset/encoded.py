"""A dataset as the UNet sees it: every caption and crop encoded once, before training."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rasengan_xl.config.settings import RunSettings
from rasengan_xl.dataset.crops import SizeNumbers, size_numbers
from rasengan_xl.dataset.encoding import CropRequest, encode_crops, encode_wordings, prompt_key
from rasengan_xl.dataset.plan import PicturePlan, PlannedPicture, plan_pictures
from rasengan_xl.dataset.split import fingerprint, split_held_out
from rasengan_xl.dataset.store import Shelf, content_key
from rasengan_xl.ranks import ALONE, Ranks
from rasengan_xl.runs.records import DatasetFacts, EncodingFacts, StageProgress
from rasengan_xl.sdxl.components import load_scaling_factor, load_tokenizers
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.latents import Posterior
from rasengan_xl.sdxl.model_folder import ModelFolder
from rasengan_xl.sdxl.prompts import PromptStates, count_cut_captions
from rasengan_xl.sources.opening import open_source
from rasengan_xl.sources.pictures import Source, count_reasons

EMPTY_WORDING = ""


@dataclass(frozen=True, slots=True)
class EncodedCrop:
    """Where the posterior of one crop is, and what the UNet is told about its size."""

    key: str
    size_numbers: SizeNumbers


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPicture:
    """A picture whose crops and captions have been encoded."""

    name: str
    digest: str
    """Identity of the picture with its captions."""
    crops: tuple[EncodedCrop, ...]
    """All of one size."""
    wordings: tuple[str, ...]
    """Keys of its encoded captions."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that it is trained at, in pixels."""
        return self.crops[0].size_numbers[4:]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPictures:
    """Some of a dataset's pictures; their tensors stay on disk until they are asked for."""

    pictures: Sequence[EncodedPicture]
    latents: Shelf
    prompts: Shelf
    null_prompt: PromptStates
    """What stands for no caption; one row."""
    scaling_factor: float
    """What the model's VAE multiplies latents by."""
    null_key: str = ""
    """Of what is kept of `null_prompt` beside it."""
    key_values: Shelf | None = None
    """The base's keys and values of captions, if they are kept: `key_values.py`."""

    def __len__(self) -> int:
        return len(self.pictures)

    def posterior(self, crop: EncodedCrop) -> Posterior:
        """Return the VAE's posterior of a crop, unscaled."""
        entry = self.latents.read(crop.key)
        return Posterior(mean=entry["mean"], deviation=entry["deviation"])

    def prompt(self, key: str) -> PromptStates:
        """Return an encoded caption, as one row."""
        return _one_row(self.prompts, key)

    def prompt_of(self, key: str) -> PromptStates:
        """Return what is encoded by a key, that of no caption included."""
        return self.null_prompt if key == self.null_key else self.prompt(key)

    def kept_key_values(self, key: str) -> Float[Tensor, "1 token key_value"] | None:
        """Return the base's keys and values of a caption, as one row; None: they are not kept."""
        return None if self.key_values is None else self.key_values.read(key)["key_values"][None]

    def mean(self, row: int) -> Float[Tensor, "channel height width"]:
        """Return the scaled mean latent of a picture's first crop."""
        return self.posterior(self.pictures[row].crops[0]).mean * self.scaling_factor


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedDataset:
    """What is trained on, what is held out, and an account of both."""

    train: EncodedPictures
    held_out: EncodedPictures
    source: Source
    plan: PicturePlan
    train_plan: tuple[PlannedPicture, ...]
    held_out_plan: tuple[PlannedPicture, ...]
    facts: DatasetFacts
    captions_encoded: EncodingFacts
    crops_encoded: EncodingFacts


def encode_dataset(
    settings: RunSettings, model: ModelFolder, compute: Compute, ranks: Ranks = ALONE
) -> Generator[StageProgress, None, EncodedDataset]:
    """Read, plan, split and encode a dataset, or take from the store what is there already.

    The text encoders go before the VAE comes: they are never in memory together.

    Raises:
        DatasetError: The dataset is unusable, or a picture encodes to something not finite.
    """
    wanted = settings.dataset
    with ranks.together():
        source = yield from open_source(wanted, settings.caption.origin)
        plan = plan_pictures(source, wanted, settings.caption, settings.seed)
        train, held_out = split_held_out(plan.used, wanted.held_out_share, wanted.held_out_minimum)
        held_out = _cut_alike_for_every_seed(held_out, settings)
    yield StageProgress(
        stage="plan the pictures", done=1, total=1, note=_tell_use(source, plan, len(held_out))
    )
    texts = sorted({EMPTY_WORDING, *(w for picture in plan.used for w in picture.wordings)})
    prompts, captions_encoded = yield from encode_wordings(texts, model, compute, ranks)
    requests = [r for picture in (*train, *held_out) for r in _requests(picture, wanted.background)]
    latents, crops_encoded = yield from encode_crops(requests, model, compute, ranks)

    def gather(planned: Sequence[PlannedPicture]) -> EncodedPictures:
        return EncodedPictures(
            pictures=[_describe(picture, wanted.background) for picture in planned],
            latents=latents,
            prompts=prompts,
            null_prompt=_null_prompt(prompts, settings.caption.null),
            null_key=_null_key(settings.caption.null),
            scaling_factor=load_scaling_factor(model),
        )

    captions_cut = count_cut_captions(texts, load_tokenizers(model))
    return EncodedDataset(
        train=gather(train),
        held_out=gather(held_out),
        source=source,
        plan=plan,
        train_plan=train,
        held_out_plan=held_out,
        facts=_collect_facts(source, plan, len(held_out), captions_cut),
        captions_encoded=captions_encoded,
        crops_encoded=crops_encoded,
    )


def _cut_alike_for_every_seed(
    held_out: tuple[PlannedPicture, ...], settings: RunSettings
) -> tuple[PlannedPicture, ...]:
    """Cut held-out pictures as a run of seed 0 does: runs of any seed are measured on the same."""
    if settings.seed == 0 or settings.dataset.crop != "random":
        return held_out
    pictures = tuple(planned.picture for planned in held_out)
    only = Source(name="held out", revision=None, pictures=pictures)
    return plan_pictures(only, settings.dataset, settings.caption, seed=0).used


def _collect_facts(
    source: Source, plan: PicturePlan, held_out: int, captions_cut: int
) -> DatasetFacts:
    return DatasetFacts(
        source=source.name,
        revision=source.revision,
        found=len(source.pictures) + len(source.skipped),
        train=len(plan.used) - held_out,
        held_out=held_out,
        fingerprint=fingerprint(plan.used),
        skipped=count_reasons(plan.skipped),
        ignored_files=dict(source.ignored),
        upscaled=sum(picture.crops[0].upscaled for picture in plan.used),
        captions_cut=captions_cut,
    )


def _null_prompt(prompts: Shelf, kind: str) -> PromptStates:
    """Return the encoded empty text, or zeros of its shape."""
    empty = _one_row(prompts, prompt_key(EMPTY_WORDING))
    if kind == "empty":
        return empty
    return PromptStates(
        states=torch.zeros_like(empty.states), pooled=torch.zeros_like(empty.pooled)
    )


def _null_key(kind: str) -> str:
    """Name what stands for no caption; zeros are no caption's."""
    return prompt_key(EMPTY_WORDING) if kind == "empty" else content_key(kind)


def _tell_use(source: Source, plan: PicturePlan, held_out: int) -> str:
    """Say how many pictures are used if others are not; nothing if all are."""
    if not plan.skipped:
        return ""
    counts = ", ".join(f"{n:,} {reason}" for reason, n in count_reasons(plan.skipped).items())
    return (
        f"{source.name}: {len(plan.used) - held_out:,} pictures to train on, {held_out:,} held "
        f"out, {len(plan.skipped):,} skipped ({counts}): `rasengan prepare` names each"
    )


def _requests(planned: PlannedPicture, background: str) -> list[CropRequest]:
    return [CropRequest(planned.picture, crop, background) for crop in planned.crops]


def _describe(planned: PlannedPicture, background: str) -> EncodedPicture:
    return EncodedPicture(
        name=planned.picture.name,
        digest=planned.picture.digest,
        crops=tuple(
            EncodedCrop(request.key, size_numbers(request.crop))
            for request in _requests(planned, background)
        ),
        wordings=tuple(prompt_key(wording) for wording in planned.wordings),
    )


def _one_row(shelf: Shelf, key: str) -> PromptStates:
    entry = shelf.read(key)
    return PromptStates(states=entry["states"][None], pooled=entry["pooled"][None])
