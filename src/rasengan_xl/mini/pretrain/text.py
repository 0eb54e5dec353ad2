"""Train the text encoders of mini SDXL to carry what a caption says.

SDXL's encoders learnt from pictures with captions; these learn from captions with known
attributes: linear readers on their states must name every attribute of the scene.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from rasengan_xl.mini.architecture import TEXT_WIDTH
from rasengan_xl.mini.pretrain.fitting import FitRecord, FitSettings, fit
from rasengan_xl.mini.pretrain.pictures import Subject, answer_questions
from rasengan_xl.mini.world.captions import write_caption
from rasengan_xl.mini.world.scenes import ATTRIBUTES, draw_scene

SETTINGS = FitSettings(steps=1_500, learning_rate=1e-3, seed=2, ema_decay=0.99)
BATCH_SIZE = 64

CAPTION_STYLES = ("plain", "pencil", "watercolour", "poster")
QUESTIONS: dict[str, tuple[str | bool, ...]] = {**ATTRIBUTES, "style": CAPTION_STYLES}


class AttributeReaders(nn.Module):
    """One attention-pooled linear reader per attribute, on the states of every token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(QUESTIONS), width) / width**0.5)
        self.readers = nn.ModuleList(nn.Linear(width, len(v)) for v in QUESTIONS.values())

    def forward(self, states: Tensor) -> list[Tensor]:
        """Return logits of each attribute.

        Args:
            states: [batch, token, width].
        """
        attention = torch.einsum("aw,btw->bat", self.queries, states).softmax(dim=-1)
        pooled = attention @ states
        return [reader(pooled[:, i]) for i, reader in enumerate(self.readers)]


class TextStage(nn.Module):
    """Both encoders and the readers that teach them; the readers are thrown away after."""

    def __init__(self, first: CLIPTextModel, second: CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.token_readers = AttributeReaders(2 * TEXT_WIDTH)
        self.pooled_readers = AttributeReaders(TEXT_WIDTH)

    def forward(self, first_ids: Tensor, second_ids: Tensor) -> list[list[Tensor]]:
        """Return logits read from the UNet's token states and from its pooled prompt."""
        first = self.first(first_ids, output_hidden_states=True)
        second = self.second(second_ids, output_hidden_states=True)
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return [self.token_readers(states), self.pooled_readers(second.text_embeds[:, None])]


def train_text_encoders(
    stage: TextStage,
    tokenizers: tuple[CLIPTokenizer, CLIPTokenizer],
    subjects: Sequence[Subject],
    checkpoint: Path,
    settings: FitSettings,
) -> Iterator[FitRecord]:
    """Train both encoders in place on the captions of the subjects."""
    device = next(stage.parameters()).device
    first_ids, second_ids = (tokenize(t, caption_subjects(subjects)) for t in tokenizers)
    answers = torch.tensor(answer_questions(subjects, QUESTIONS))

    def loss_at_step(generator: Generator) -> Tensor:
        chosen = torch.randint(len(subjects), (BATCH_SIZE,), generator=generator)
        truth = answers[chosen].to(device)
        readings = stage(first_ids[chosen].to(device), second_ids[chosen].to(device))
        losses = [
            F.cross_entropy(logits, truth[:, i])
            for reading in readings
            for i, logits in enumerate(reading)
        ]
        return torch.stack(losses).mean()

    yield from fit(stage, loss_at_step, settings, checkpoint)


@torch.no_grad()
def reading_accuracy(
    stage: TextStage,
    tokenizers: tuple[CLIPTokenizer, CLIPTokenizer],
    subjects: Sequence[Subject],
) -> dict[str, float]:
    """Return, for each attribute, the share of captions whose pooled prompt names it rightly."""
    device = next(stage.parameters()).device
    ids = [tokenize(t, caption_subjects(subjects)).to(device) for t in tokenizers]
    answers = torch.tensor(answer_questions(subjects, QUESTIONS))
    _, pooled = stage(*ids)
    shares = [
        (logits.argmax(dim=-1).cpu() == answers[:, i]).float().mean().item()
        for i, logits in enumerate(pooled)
    ]
    return dict(zip(QUESTIONS, shares, strict=True))


def caption_subjects(subjects: Sequence[Subject]) -> list[str]:
    """Write the caption of each subject."""
    return [write_caption(draw_scene(subject.seed), subject.style) for subject in subjects]


def ends_of_caption(tokenizer: CLIPTokenizer) -> tuple[int, int]:
    """Return the numbers of the tokens that open and close a caption."""
    untyped = cast("Any", tokenizer)
    return untyped.bos_token_id, untyped.eos_token_id


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Return token numbers, [caption, MAX_TOKENS]."""
    cut = cast("Any", tokenizer)
    return cut(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
