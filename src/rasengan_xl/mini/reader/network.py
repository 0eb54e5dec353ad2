"""The shape of the attribute reader: a small residual network with a head for each attribute."""

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rasengan_xl.mini.world.hands import HANDS
from rasengan_xl.mini.world.scenes import ATTRIBUTES

QUESTIONS: dict[str, tuple[str | bool, ...]] = {**ATTRIBUTES, "style": tuple(HANDS)}
"""What is read off a picture, with the choices of each: seven attributes, and the hand."""
FEATURE_WIDTH = 128
WIDTHS = (24, 48, 64, 88)
"""Channels at 64, 32, 16 and 8 px. The irises of a plain portrait are two or three pixels wide, so
the first block keeps every pixel."""
GROUP_WIDTH = 8
"""Channels normalised together. Groups rather than batches: a picture is then read the same
alone and among others, and there is no running statistic beside the averaged weights."""


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(width // GROUP_WIDTH, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second_norm = nn.GroupNorm(width // GROUP_WIDTH, width)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, states: Tensor) -> Tensor:
        """Return states of the same shape."""
        inner = self.first(F.silu(self.first_norm(states)))
        return states + self.second(F.silu(self.second_norm(inner)))


class ReaderNetwork(nn.Module):
    """0.31 M parameters: 64 px pictures to 128 features, and from these the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width) for width in WIDTHS[:-1])
        self.reductions = nn.ModuleList(
            nn.Conv2d(width, wider, 3, stride=2, padding=1) for width, wider in pairwise(WIDTHS)
        )
        self.last = nn.Conv2d(WIDTHS[-1], WIDTHS[-1], 3, padding=1)
        self.norm = nn.GroupNorm(WIDTHS[-1] // GROUP_WIDTH, WIDTHS[-1])
        self.to_features = nn.Linear(2 * WIDTHS[-1], FEATURE_WIDTH)
        self.heads = nn.ModuleList(nn.Linear(FEATURE_WIDTH, len(c)) for c in QUESTIONS.values())

    def features(self, pictures: Tensor) -> Tensor:
        """Return the layer that every head reads, [picture, FEATURE_WIDTH].

        Args:
            pictures: In [-1, 1], [picture, 3, 64, 64].
        """
        states = self.stem(pictures)
        for block, reduction in zip(self.blocks, self.reductions, strict=True):
            states = reduction(block(states))
        states = F.silu(self.norm(states + self.last(F.silu(states))))
        pooled = torch.cat([states.mean(dim=(2, 3)), states.amax(dim=(2, 3))], dim=1)
        return F.silu(self.to_features(pooled))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return the logits of each question, in the order of `QUESTIONS`."""
        features = self.features(pictures)
        return [head(features) for head in self.heads]
