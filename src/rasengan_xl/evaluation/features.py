"""Features of pictures and texts, computed once for each encoder and content."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from rasengan_xl.evaluation.encoders import Encoder
from rasengan_xl.fact_index import FactIndex

BATCH_SIZE = 16
FEATURES = "features 1"
"""Kind of the facts; its number goes up when pictures or texts are prepared otherwise."""

Content = TypeVar("Content")


def encode_pictures(
    encoder: Encoder, pictures: Iterable[Image.Image], batch_size: int = BATCH_SIZE
) -> Float[np.ndarray, "picture width"]:
    """Return the features of pictures in order; those met before are not computed again.

    Args:
        encoder: What computes them.
        pictures: Taken a batch at a time, so that they need not all be in memory.
        batch_size: Pictures per forward pass.
    """
    return _encode(encoder.features, pictures, _picture_key(encoder), batch_size)


def encode_texts(
    encoder: Encoder, texts: Iterable[str], batch_size: int = BATCH_SIZE
) -> Float[np.ndarray, "text width"]:
    """Return the features of texts in order; those met before are not computed again.

    Args:
        encoder: One that takes texts.
        texts: Any number.
        batch_size: Texts per forward pass.
    """
    assert encoder.texts is not None, "this encoder takes pictures alone"
    return _encode(encoder.texts.features, texts, _text_key(encoder), batch_size)


def _encode(
    compute: Callable[[Sequence[Content]], Tensor],
    contents: Iterable[Content],
    key_of: Callable[[Content], str],
    batch_size: int,
) -> np.ndarray:
    features: list[np.ndarray] = []
    with FactIndex() as index:
        for batch in _batches(contents, batch_size):
            keys = [key_of(content) for content in batch]
            known = {key: index.get(FEATURES, key) for key in keys}
            # The same picture twice in a batch is one to compute.
            missing = {k: c for k, c in zip(keys, batch, strict=True) if known[k] is None}
            if missing:
                rows = compute(list(missing.values())).float().numpy()
                found = {k: row.tobytes() for k, row in zip(missing, rows, strict=True)}
                for key, row in found.items():
                    index.put(FEATURES, key, row)
                known |= found
            features += [np.frombuffer(known[key] or b"", dtype=np.float32) for key in keys]
    return np.stack(features) if features else np.empty((0, 0), dtype=np.float32)


def _batches(contents: Iterable[Content], size: int) -> Iterator[list[Content]]:
    left = iter(contents)
    while batch := list(islice(left, size)):
        yield batch


def _picture_key(encoder: Encoder) -> Callable[[Image.Image], str]:
    def key_of(picture: Image.Image) -> str:
        colours = picture.convert("RGB")
        digest = hashlib.sha256(f"{colours.width}x{colours.height} ".encode())
        digest.update(colours.tobytes())
        return f"{encoder.identity} picture {digest.hexdigest()}"

    return key_of


def _text_key(encoder: Encoder) -> Callable[[str], str]:
    return lambda text: f"{encoder.identity} text {text}"
