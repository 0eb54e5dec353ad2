"""Encoders that turn pictures, and with CLIP also texts, into features to compare."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModel, CLIPModel, CLIPTokenizer

from rasengan_xl.config.comparison_settings import DEFAULT_ENCODERS
from rasengan_xl.errors import ModelError
from rasengan_xl.evaluation.distances import normalise
from rasengan_xl.evaluation.encoder_folder import EncoderFolder, find_encoder_folder
from rasengan_xl.evaluation.preprocessing import Preprocessing, read_preprocessing
from rasengan_xl.sdxl.prompts import count_tokens

EncoderKind = Literal["clip", "dino"]
_MODEL_TYPES: dict[EncoderKind, tuple[str, ...]] = {
    "clip": ("clip",),
    "dino": ("dinov2", "dinov2_with_registers"),
}
CLIP_SCORE_SCALE = 100.0
"""As people report it; arXiv:2104.08718 takes 2.5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoder:
    """The half of an encoder that takes texts."""

    features: Callable[[Sequence[str]], Tensor]
    """Texts to [text, width], float32 on the CPU; the end of a long text is not seen."""
    count_cut: Callable[[Sequence[str]], int]
    """How many texts are too long to be seen whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """What turns pictures into features; the features as they are, of no particular length."""

    identity: str
    """Hash of all that the features depend on beside the picture."""
    features: Callable[[Sequence[Image.Image]], Tensor]
    """One batch of pictures to [picture, width], float32 on the CPU."""
    texts: TextEncoder | None = None
    """Absent where the encoder takes pictures alone."""


def find_encoder(
    kind: EncoderKind, name: str, revision: str | None, device: torch.device
) -> Encoder:
    """Find and load an encoder in float32, downloading it if need be.

    Args:
        kind: What it must be.
        name: A folder or a hub id.
        revision: Commit, tag or branch of a hub model.
        device: Where it is to compute.

    Raises:
        ModelError: It cannot be had, is damaged, or is of another kind.
    """
    folder = find_encoder_folder(name, revision)
    model_type = folder.read_json("config.json").get("model_type")
    if model_type not in _MODEL_TYPES[kind]:
        raise ModelError(
            f"encoder {name!r}: is of type {model_type!r}, not {_MODEL_TYPES[kind][0]!r}; give a "
            f"model such as {DEFAULT_ENCODERS[kind]}"
        )
    preprocessing = read_preprocessing(folder)
    if kind == "clip":
        return _load_clip(folder, preprocessing, device)
    return _load_dino(folder, preprocessing, device)


def clip_scores(
    pictures: Float[np.ndarray, "picture width"], texts: Float[np.ndarray, "picture width"]
) -> Float[np.ndarray, " picture"]:
    """Return how well each picture fits its text: 100 * max(cosine, 0) (arXiv:2104.08718)."""
    cosines = (normalise(pictures) * normalise(texts)).sum(axis=1)
    return CLIP_SCORE_SCALE * cosines.clip(min=0)


def _load_clip(
    folder: EncoderFolder, preprocessing: Preprocessing, device: torch.device
) -> Encoder:
    model = _load(CLIPModel, folder, device)
    _check_size(folder.path, model.config.vision_config.image_size, preprocessing)
    with _explaining(folder.path):
        tokenizer = cast("Any", CLIPTokenizer).from_pretrained(folder.path)
    limit = int(model.config.text_config.max_position_embeddings)

    @torch.no_grad()
    def encode_pictures(pictures: Sequence[Image.Image]) -> Tensor:
        pixels = torch.stack([preprocessing.to_pixels(each) for each in pictures]).to(device)
        return model.visual_projection(model.vision_model(pixels).pooler_output).cpu()

    @torch.no_grad()
    def encode_texts(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer(
            list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt"
        ).to(device)
        states = model.text_model(tokens.input_ids, attention_mask=tokens.attention_mask)
        return model.text_projection(states.pooler_output).cpu()

    def count_cut(texts: Sequence[str]) -> int:
        return sum(length > limit for length in count_tokens(texts, tokenizer))

    texts = TextEncoder(features=encode_texts, count_cut=count_cut)
    return Encoder(identity=folder.identity, features=encode_pictures, texts=texts)


def _load_dino(
    folder: EncoderFolder, preprocessing: Preprocessing, device: torch.device
) -> Encoder:
    model = _load(AutoModel, folder, device)

    @torch.no_grad()
    def encode_pictures(pictures: Sequence[Image.Image]) -> Tensor:
        pixels = torch.stack([preprocessing.to_pixels(each) for each in pictures]).to(device)
        return model(pixels).last_hidden_state[:, 0].cpu()  # the class token

    return Encoder(identity=folder.identity, features=encode_pictures)


def _load(kind: Any, folder: EncoderFolder, device: torch.device) -> Any:
    with _explaining(folder.path):
        model, notes = kind.from_pretrained(
            folder.path,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    if notes["missing_keys"]:
        raise ModelError(
            f"{folder.path}: the weights lack {min(notes['missing_keys'])} and "
            f"{len(notes['missing_keys']) - 1} more; fetch the model again"
        )
    return model.requires_grad_(requires_grad=False).eval().to(device)


def _check_size(path: Path, edge: int, preprocessing: Preprocessing) -> None:
    size = preprocessing.size_of_square()
    if size != (edge, edge):
        raise ModelError(
            f"{path}: preprocessor_config.json makes pictures of {size[0]} x {size[1]}, the model "
            f"takes {edge} x {edge}; fetch the model again"
        )


@contextmanager
def _explaining(path: Path) -> Generator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0] or repr(error)
        raise ModelError(f"{path}: cannot be loaded ({reason}); fetch the model again") from error
