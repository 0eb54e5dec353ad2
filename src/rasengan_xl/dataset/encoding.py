"""Captions and crops to tensors: what is not in the store yet is encoded, and nothing else.

Each encoder is loaded once, used, and let go.  Batches have a fixed size, filled up where need
be, so that an entry does not depend on what else was missing.
"""

import gc
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import torch
from PIL import Image

from rasengan_xl.cache_folder import cache_folder
from rasengan_xl.dataset.crops import Crop, apply_crop
from rasengan_xl.dataset.shared_work import Part, fill_store
from rasengan_xl.dataset.store import ShardWriter, TensorStore, content_key
from rasengan_xl.errors import DatasetError
from rasengan_xl.prefetch import THREADS, prefetch
from rasengan_xl.ranks import Ranks
from rasengan_xl.runs.records import EncodingFacts, StageProgress
from rasengan_xl.sdxl import latents, prompts
from rasengan_xl.sdxl.components import load_text_encoders, load_tokenizers, load_vae
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import TEXT_ENCODERS, TOKENIZERS, ModelFolder
from rasengan_xl.sources.pictures import CaptionedPicture

Item = TypeVar("Item")

FORMAT = 2
"""Raised when the way of encoding changes, so that older entries are not taken for new ones."""
CAPTIONS_AT_ONCE = 32
PIXELS_AT_ONCE = {"cpu": 2**16, "cuda": 2**20}
"""Area that the VAE encodes at once, in float32: four pictures of 512 px on a GPU."""
_LATENT_NAMES = ("mean", "deviation")
_PROMPT_NAMES = ("states", "pooled")


@dataclass(frozen=True, slots=True)
class CropRequest:
    """One crop of one picture, to be encoded."""

    picture: CaptionedPicture
    crop: Crop
    background: str
    """Colour that shows through transparent pictures."""

    @property
    def key(self) -> str:
        """Name of the encoded crop in the store."""
        return content_key(FORMAT, self.picture.picture_digest, self.background, self.crop)

    def cut(self) -> Image.Image:
        """Load the picture and cut it."""
        return apply_crop(self.picture.load(self.background), self.crop)


def prompt_key(wording: str) -> str:
    """Return the name of an encoded caption in the store."""
    return content_key(FORMAT, wording)


def encode_wordings(
    wordings: Sequence[str], model: ModelFolder, compute: Compute, ranks: Ranks
) -> Generator[StageProgress, None, tuple[TensorStore, EncodingFacts]]:
    """Encode every caption that is not in the store; equal captions once.

    Returns:
        The store, with `states` and `pooled` of each; and how much was encoded.
    """
    identity = model.identity((*TOKENIZERS, *TEXT_ENCODERS))
    store = find_store("prompts", _PROMPT_NAMES, identity, compute.device.type, compute.dtype)
    wanted = {prompt_key(wording): wording for wording in wordings}

    def encode(missing: list[str], part: Part) -> Iterator[StageProgress]:
        texts = [wanted[key] for key in missing]
        batches = _cut_up(texts, CAPTIONS_AT_ONCE)[part.index :: part.count]
        return _encode_wordings(batches, store, model, compute)

    facts = yield from fill_store(store, wanted, encode, ranks)
    return store, facts


def encode_crops(
    requests: Sequence[CropRequest], model: ModelFolder, compute: Compute, ranks: Ranks
) -> Generator[StageProgress, None, tuple[TensorStore, EncodingFacts]]:
    """Encode every crop that is not in the store, in float32.

    Returns:
        The store, with `mean` and `deviation` of each, unscaled; and how much was encoded.

    Raises:
        DatasetError: A picture is damaged, or encodes to something not finite.
    """
    device = compute.device.type
    store = find_store("latents", _LATENT_NAMES, model.identity(("vae",)), device, torch.float32)
    wanted = {request.key: request for request in requests}

    def encode(missing: list[str], part: Part) -> Iterator[StageProgress]:
        batches = _group_by_size([wanted[key] for key in missing], PIXELS_AT_ONCE[device])
        return _encode_crops(batches[part.index :: part.count], store, model, compute)

    facts = yield from fill_store(store, wanted, encode, ranks)
    return store, facts


def _encode_wordings(
    batches: Sequence[Sequence[str]], store: TensorStore, model: ModelFolder, compute: Compute
) -> Iterator[StageProgress]:
    encoders, tokenizers = load_text_encoders(model, compute), load_tokenizers(model)
    done, total = 0, sum(map(len, batches))
    with closing(ShardWriter(store.folder)) as writer:
        for batch in batches:
            encoded = prompts.encode_captions(batch, tokenizers, encoders, CAPTIONS_AT_ONCE)
            for row, wording in enumerate(batch):
                entry = {"states": encoded.states[row], "pooled": encoded.pooled[row]}
                writer.add(prompt_key(wording), entry)
            done += len(batch)
            yield StageProgress(stage="encode captions", done=done, total=total)
    del encoders
    free_memory()


def _encode_crops(
    batches: Sequence[Sequence[CropRequest]],
    store: TensorStore,
    model: ModelFolder,
    compute: Compute,
) -> Iterator[StageProgress]:
    vae = load_vae(model, compute.device)
    done, total = 0, sum(map(len, batches))
    cut = prefetch(_cut_batch, batches, ahead=2 * THREADS)
    with closing(ShardWriter(store.folder)) as writer, closing(cut):
        for batch, images in zip(batches, cut, strict=True):
            size = _batch_size(batch[0].crop, PIXELS_AT_ONCE[compute.device.type])
            posteriors = latents.encode_pictures(vae, images, size)
            for request, posterior in zip(batch, posteriors, strict=True):
                _refuse_infinite(posterior, request.picture)
                entry = {"mean": posterior.mean, "deviation": posterior.deviation}
                writer.add(request.key, entry)
            done += len(batch)
            yield StageProgress(stage="encode pictures", done=done, total=total)
    del vae
    free_memory()


def _cut_batch(batch: Sequence[CropRequest]) -> list[Image.Image]:
    return [request.cut() for request in batch]


def _refuse_infinite(posterior: latents.Posterior, picture: CaptionedPicture) -> None:
    if not posterior.is_finite:
        raise DatasetError(
            f"{picture.name}: the VAE encodes it to something not finite; remove the picture, "
            "or use a model with a sound VAE"
        )


def find_store(kind: str, names: Sequence[str], *identity: object) -> TensorStore:
    """Return the store of what is encoded in one way.

    Args:
        kind: Of what is encoded.
        names: Of the tensors of an entry.
        identity: All that an entry depends on, beside what its key says.
    """
    return TensorStore(cache_folder() / kind / content_key(*identity), names)


def _group_by_size(requests: Sequence[CropRequest], pixels: int) -> list[list[CropRequest]]:
    """Put crops of one size together, as many as are encoded at once."""

    def size(request: CropRequest) -> tuple[int, int]:
        return request.crop.target_height, request.crop.target_width

    batches: list[list[CropRequest]] = []
    for _, group in groupby(sorted(requests, key=size), key=size):
        alike = list(group)
        batches += _cut_up(alike, _batch_size(alike[0].crop, pixels))
    return batches


def _batch_size(crop: Crop, pixels: int) -> int:
    return max(1, pixels // (crop.target_height * crop.target_width))


def _cut_up(items: Sequence[Item], size: int) -> list[list[Item]]:
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def free_memory() -> None:
    """Give back what an encoder took."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
