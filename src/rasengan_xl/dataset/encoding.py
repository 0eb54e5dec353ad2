"""Captions and pictures to tensors: each encoder loaded once, used, and let go."""

import gc
from collections.abc import Generator, Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from rasengan_xl.cache_folder import cache_folder
from rasengan_xl.dataset.cache import content_key, read_cached
from rasengan_xl.dataset.crops import Crop, CropRules, apply_crop, list_variants, size_numbers
from rasengan_xl.dataset.pictures import CaptionedPicture
from rasengan_xl.errors import DatasetError
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl import latents, prompts
from rasengan_xl.sdxl.components import load_text_encoders, load_tokenizers, load_vae
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import TEXT_ENCODERS, TOKENIZERS, ModelFolder
from rasengan_xl.tensor_file import write_tensors

VAE_BATCH_SIZE = {"cpu": 16, "cuda": 4}
"""Pictures that the VAE encodes at once, in float32."""

Encoding = Generator[StageProgress, None, dict[str, Tensor]]


def encode_captions(captions: list[str], model: ModelFolder, compute: Compute) -> Encoding:
    """Return `states` and `pooled` of every caption, from the cache if they are there."""
    key = content_key(model.identity((*TOKENIZERS, *TEXT_ENCODERS)), compute, contents=captions)
    file = cache_folder() / f"prompts-{key}.safetensors"
    cached = read_cached(file)
    if cached is not None:
        return cached
    stage = "encode captions"
    encoders = load_text_encoders(model, compute)
    states: list[Tensor] = []
    pooled: list[Tensor] = []
    for batch in prompts.encode_captions(captions, load_tokenizers(model), encoders):
        states.append(batch.states)
        pooled.append(batch.pooled)
        done = sum(len(part) for part in states)
        yield StageProgress(stage=stage, done=done, total=len(captions))
    del encoders
    _free_memory()
    tensors = {"states": torch.cat(states), "pooled": torch.cat(pooled)}
    write_tensors(file, tensors)
    return tensors


def encode_pictures(
    pictures: Sequence[CaptionedPicture], rules: CropRules, model: ModelFolder, compute: Compute
) -> Encoding:
    """Return the posterior and the size numbers of every crop, from the cache if they are there.

    Raises:
        DatasetError: A picture is damaged, or encodes to something not finite.
    """
    digests = [picture.picture_digest for picture in pictures]
    key = content_key(model.identity(("vae",)), compute.device.type, rules, contents=digests)
    file = cache_folder() / f"latents-{key}.safetensors"
    cached = read_cached(file)
    if cached is not None:
        return cached
    vae = load_vae(model, compute.device)
    means: list[Tensor] = []
    deviations: list[Tensor] = []
    crops: list[tuple[Crop, ...]] = []
    stage, variants = "encode pictures", rules.crops_per_picture * (2 if rules.flip else 1)
    cut = _cut(pictures, rules, crops)
    for posterior in latents.encode_pictures(vae, cut, VAE_BATCH_SIZE[compute.device.type]):
        picture = pictures[len(means) // variants]
        if not posterior.is_finite:
            raise DatasetError(
                f"{picture.name}: the VAE encodes it to something not finite; remove the picture, "
                "or use a model with a sound VAE"
            )
        means.append(posterior.mean)
        deviations.append(posterior.deviation)
        yield StageProgress(stage=stage, done=len(means), total=len(pictures) * variants)
    tensors: dict[str, Tensor] = {
        "means": torch.stack(means).unflatten(0, (-1, variants)),
        "deviations": torch.stack(deviations).unflatten(0, (-1, variants)),
        "size_numbers": torch.tensor([[size_numbers(crop) for crop in each] for each in crops]),
        "upscaled": torch.tensor([each[0].upscaled for each in crops]),
        "scaling_factor": torch.tensor(latents.scaling_factor(vae), dtype=torch.float64),
    }
    del vae
    _free_memory()
    write_tensors(file, tensors)
    return tensors


def _cut(
    pictures: Sequence[CaptionedPicture], rules: CropRules, crops: list[tuple[Crop, ...]]
) -> Iterator[Image.Image]:
    """Yield every crop of every picture, noting in `crops` where each was cut."""
    for picture in pictures:
        image = picture.load()
        variants = list_variants(image.width, image.height, picture.picture_digest, rules)
        crops.append(variants)
        for crop in variants:
            yield apply_crop(image, crop)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
