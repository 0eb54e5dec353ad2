"""Load the shipped attribute reader, and have it read pictures of any size."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rasengan_xl.mini.reader.network import FEATURE_WIDTH, QUESTIONS, ReaderNetwork
from rasengan_xl.mini.world.portraits import PICTURE_SIZE
from rasengan_xl.tensor_file import read_tensors

READER_FOLDER = Path(__file__).parent
WEIGHTS_NAME, ACCURACY_NAME = "weights.safetensors", "accuracy.json"
BATCH_SIZE = 64
_WAYS = ("drawn", "redrawn")
"""Portraits as they are, and as the VAE gives them back."""


def lowest_accuracy(
    styles: Sequence[str] = ("plain", "shinobi"), folder: Path = READER_FOLDER
) -> float:
    """Return how often the reader is right where it is least so, over attributes and styles.

    Args:
        styles: Of the held-out portraits, as drawn and through the VAE.
        folder: What holds the reader, if not the one that ships with the package.
    """
    told = json.loads((folder / ACCURACY_NAME).read_text(encoding="utf-8"))
    return min(min(told[way][style].values()) for way in _WAYS for style in styles)


class AttributeReader:
    """Says what portraits of the mini world show; pictures of another size are made 64 px first."""

    def __init__(self, network: ReaderNetwork) -> None:
        self.network = network

    def read(self, pictures: Sequence[Image.Image]) -> dict[str, list[str | bool]]:
        """Return, for each of `QUESTIONS`, the likeliest value on each picture."""
        readings: dict[str, list[str | bool]] = {}
        for name, shares in self.probabilities(pictures).items():
            places = cast("list[int]", shares.argmax(dim=1).tolist())
            readings[name] = [QUESTIONS[name][place] for place in places]
        return readings

    def probabilities(
        self, pictures: Sequence[Image.Image]
    ) -> dict[str, Float[Tensor, "picture choice"]]:
        """Return, for each of `QUESTIONS`, the probability of each choice."""
        parts = [self.network(batch) for batch in self._batches(pictures)]
        shares: dict[str, Tensor] = {}
        for i, (name, choices) in enumerate(QUESTIONS.items()):
            logits = [torch.empty(0, len(choices)), *(part[i].cpu() for part in parts)]
            shares[name] = torch.cat(logits).softmax(dim=1)
        return shares

    def features(self, pictures: Sequence[Image.Image]) -> Float[Tensor, "picture 128"]:
        """Return what every answer is read from: a description of what a picture shows."""
        parts = [self.network.features(batch).cpu() for batch in self._batches(pictures)]
        return torch.cat([torch.empty(0, FEATURE_WIDTH), *parts])

    def _batches(self, pictures: Sequence[Image.Image]) -> Iterator[Tensor]:
        device = next(self.network.parameters()).device
        for start in range(0, len(pictures), BATCH_SIZE):
            rows = [_to_pixels(picture) for picture in pictures[start : start + BATCH_SIZE]]
            stacked = torch.from_numpy(np.stack(rows)).to(device)
            yield stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


def load_reader(
    device: torch.device | str = "cpu", folder: Path = READER_FOLDER
) -> AttributeReader:
    """Load the reader, in float32.

    Args:
        device: Where it is to compute.
        folder: What holds its weights, if not those that ship with the package.
    """
    network = ReaderNetwork()
    halves = read_tensors(folder / WEIGHTS_NAME)
    network.load_state_dict({name: value.float() for name, value in halves.items()})
    return AttributeReader(network.to(device).eval().requires_grad_(requires_grad=False))


def _to_pixels(picture: Image.Image) -> NDArray[np.uint8]:
    coloured = picture.convert("RGB")
    if coloured.size != (PICTURE_SIZE, PICTURE_SIZE):
        coloured = coloured.resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(coloured)
