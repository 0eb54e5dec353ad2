"""Captions to the text states that the UNet attends to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptStates:
    """What SDXL's UNet is told about captions (arXiv:2307.01952, section 2.1)."""

    states: Float[Tensor, "caption token text_width"]
    """Penultimate hidden states of both encoders side by side (SDXL: 768 + 1280)."""
    pooled: Float[Tensor, "caption pooled_width"]
    """Projected end-of-text state of the second encoder."""


@torch.no_grad()
def encode_captions(
    captions: Sequence[str],
    tokenizers: tuple[CLIPTokenizer, CLIPTokenizer],
    encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection],
    batch_size: int,
) -> PromptStates:
    """Encode captions as one batch, on the encoders' device; results come to the CPU.

    Captions longer than the tokenizers' limit are cut.  The batch is filled up to its size: how
    a caption is computed, and so the last bits of the result, may depend on the size of its batch.
    """
    filled = [*captions, *("" for _ in range(batch_size - len(captions)))]
    device = encoders[0].device
    first_ids, second_ids = (_tokenize(t, filled).to(device) for t in tokenizers)
    first = encoders[0](first_ids, output_hidden_states=True)
    second = encoders[1](second_ids, output_hidden_states=True)
    states = torch.cat([_penultimate(first), _penultimate(second)], dim=-1)
    count = len(captions)
    return PromptStates(states=states.cpu()[:count], pooled=second.text_embeds.cpu()[:count])


def token_limit(tokenizer: CLIPTokenizer) -> int:
    """Return how many tokens a caption may have, the marks of its start and end included."""
    return cast("Any", tokenizer).model_max_length


def count_tokens(captions: Sequence[str], tokenizer: CLIPTokenizer) -> list[int]:
    """Return the length of each caption in tokens, the marks of its start and end included."""
    # It would warn of a caption that is too long, which is what is asked here.
    return [len(ids) for ids in cast("Any", tokenizer)(list(captions), verbose=False).input_ids]


def count_cut_captions(captions: Sequence[str], tokenizers: Sequence[CLIPTokenizer]) -> int:
    """Count the captions that are longer than the limit of any of the tokenizers."""
    lengths = [count_tokens(captions, tokenizer) for tokenizer in tokenizers]
    limits = [token_limit(tokenizer) for tokenizer in tokenizers]
    return sum(
        any(length > limit for length, limit in zip(each, limits, strict=True))
        for each in zip(*lengths, strict=True)
    )


def find_cut_off(caption: str, tokenizer: CLIPTokenizer) -> str:
    """Return the end of a caption that the text encoder never sees; empty if it sees all."""
    tokens = cast("Any", tokenizer)(caption, return_offsets_mapping=True, verbose=False)
    limit = token_limit(tokenizer)
    if len(tokens.input_ids) <= limit:
        return ""
    # The last place within the limit is for the mark of the end.
    start, _ = tokens.offset_mapping[limit - 1]
    return caption[start:]


def _tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    cut = cast("Any", tokenizer)
    tokens = cut(captions, padding="max_length", truncation=True, return_tensors="pt")
    return tokens.input_ids


def _penultimate(output: Any) -> Tensor:
    return output.hidden_states[-2]
