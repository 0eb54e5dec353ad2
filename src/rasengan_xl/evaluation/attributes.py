"""Whether pictures of the mini world show what their captions name, and in which style."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from rasengan_xl.mini.reader import load_reader
from rasengan_xl.mini.world.caption_reading import read_caption

STYLE = "shinobi"
"""Of the mini world's fine-tuning set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a reader of attributes says of pictures."""

    named_rightly: dict[str, list[bool | None]]
    """By attribute and picture; None where the caption does not name the attribute."""
    in_style: list[bool]


def judge_attributes(
    pictures: Sequence[Image.Image], captions: Sequence[str], device: torch.device
) -> Judged:
    """Read every picture, and set what it shows against what its caption names."""
    shown = load_reader(device).read(pictures)
    named = [read_caption(caption) for caption in captions]
    attributes = [name for name in shown if name != "style"]
    return Judged(
        named_rightly={
            attribute: [
                seen == words[attribute] if attribute in words else None
                for seen, words in zip(shown[attribute], named, strict=True)
            ]
            for attribute in attributes
        },
        in_style=[style == STYLE for style in shown["style"]],
    )
