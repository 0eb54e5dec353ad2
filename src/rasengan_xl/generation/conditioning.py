"""What the UNet is told of prompts with emphasis, or longer than the tokenizers' limit.

Plain prompts within the limit go the way of diffusers, unchanged.  The others go through compel:
words are weighted against the empty text, and what is beyond the limit follows in further chunks
of as many tokens, parted where phrases end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from jaxtyping import Float
from torch import Tensor

from rasengan_xl.errors import RecipeError
from rasengan_xl.generation.devices import execution_device
from rasengan_xl.generation.emphasis import Fragment, is_plain, plain_text, read_emphasis
from rasengan_xl.generation.requests import Request
from rasengan_xl.sdxl.prompts import count_tokens, token_limit

MOST_CHUNKS = 32


@dataclass(frozen=True, slots=True)
class TextShape:
    """What prompts must have in common to be drawn at once."""

    has_negative: bool
    chunks: int
    """Of as many tokens as the tokenizers' limit; 0: neither prompt needs compel."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    states: Float[Tensor, "1 token text_width"]
    pooled: Float[Tensor, "1 pooled_width"]


def text_shape(pipeline: StableDiffusionXLPipeline, request: Request) -> TextShape:
    """Find how a request is encoded, before anything is.

    Raises:
        RecipeError: A prompt is too long altogether.
    """
    texts = [
        request.prompt,
        *([] if request.negative_prompt is None else [request.negative_prompt]),
    ]
    read = [read_emphasis(text) for text in texts]
    tokenizers = _tokenizers(pipeline)
    longest = 0.0
    for fragments in read:
        for tokenizer in tokenizers:
            (tokens,) = count_tokens([plain_text(fragments)], tokenizer)
            longest = max(longest, tokens / token_limit(tokenizer))
    if longest > MOST_CHUNKS:
        raise RecipeError(
            f"generate: a prompt is {longest:.0f} times as long as the text encoders' limit; "
            f"shorten it to {MOST_CHUNKS} times at most"
        )
    if longest <= 1 and all(map(is_plain, read)):
        return TextShape(has_negative=request.negative_prompt is not None, chunks=0)
    chunks = max(_count_chunks(pipeline, fragments) for fragments in read)
    return TextShape(has_negative=request.negative_prompt is not None, chunks=chunks)


@torch.no_grad()
def condition(
    pipeline: StableDiffusionXLPipeline, requests: Sequence[Request], shape: TextShape
) -> dict[str, Any]:
    """Return what a pipeline of diffusers is given for prompts of one shape.

    An absent negative prompt is zeros, as SDXL was trained with (where its `model_index.json`
    does not say otherwise).  Adapters on the text encoders act if they are on now.
    """
    negatives = [request.negative_prompt for request in requests]
    if shape.chunks == 0:
        prompts = [plain_text(read_emphasis(request.prompt)) for request in requests]
        negative = [plain_text(read_emphasis(text or "")) for text in negatives]
        return {"prompt": prompts, "negative_prompt": negative if shape.has_negative else None}
    encoders = _open_encoders(pipeline)
    positive = [_encode(encoders, request.prompt, shape.chunks) for request in requests]
    force_zeros = bool(cast("Any", pipeline.config).force_zeros_for_empty_prompt)
    if shape.has_negative or not force_zeros:
        negative = [_encode(encoders, text or "", shape.chunks) for text in negatives]
    else:
        negative = [
            _Encoded(torch.zeros_like(one.states), torch.zeros_like(one.pooled)) for one in positive
        ]
    return {
        "prompt_embeds": torch.cat([one.states for one in positive]),
        "pooled_prompt_embeds": torch.cat([one.pooled for one in positive]),
        "negative_prompt_embeds": torch.cat([one.states for one in negative]),
        "negative_pooled_prompt_embeds": torch.cat([one.pooled for one in negative]),
    }


class _Encoder:
    """A text encoder that says where it computes, not where its weights wait meanwhile."""

    def __init__(self, encoder: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._encoder = encoder
        self.device = device
        self.dtype = dtype

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self._encoder(*inputs, **options)


def _open_encoders(pipeline: StableDiffusionXLPipeline) -> tuple[Any, Any]:
    """Wrap both text encoders by compel, anew each time: it keeps what the empty text gave."""
    import compel  # noqa: PLC0415 - slow to import, and seldom needed
    from compel import embeddings_provider as provider  # noqa: PLC0415

    parts: Any = pipeline
    device = execution_device(pipeline)
    kind: Any = compel.Compel
    states = provider.ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
    encoders = (parts.text_encoder, parts.text_encoder_2)
    opened = [
        kind(
            tokenizer=tokenizer,
            text_encoder=_Encoder(encoder, device, encoder.dtype),
            truncate_long_prompts=False,
            returned_embeddings_type=states,
            split_long_text_mode=provider.SplitLongTextMode.PHRASES,
            device=device,
        )
        for tokenizer, encoder in zip(_tokenizers(pipeline), encoders, strict=True)
    ]
    return opened[0], opened[1]


def _encode(encoders: tuple[Any, Any], prompt: str, chunks: int) -> _Encoded:
    fragments = read_emphasis(prompt)
    states = torch.cat([_weigh(each, fragments, chunks) for each in encoders], dim=-1)
    # The pooled state is one for the whole prompt: weights have no place in it.
    pooled = encoders[1].conditioning_provider.get_pooled_embeddings([plain_text(fragments)])
    return _Encoded(states, pooled)


def _weigh(
    encoder: Any, fragments: Sequence[Fragment], chunks: int
) -> Float[Tensor, "1 token width"]:
    """Encode fragments with their weights, filled up with the empty text."""
    from compel.prompt_parser import Conjunction, FlattenedPrompt  # noqa: PLC0415

    kept = [(each.text, each.weight) for each in fragments if each.text.strip()]
    parsed = Conjunction([FlattenedPrompt(kept or [("", 1.0)])])
    states: Tensor = encoder.build_conditioning_tensor_for_conjunction(parsed)[0]
    empty: Tensor = encoder.conditioning_provider.empty_z.to(states)
    missing = chunks - states.shape[1] // empty.shape[1]
    return torch.cat([states, *([empty] * missing)], dim=1)


def _count_chunks(pipeline: StableDiffusionXLPipeline, fragments: Sequence[Fragment]) -> int:
    """Count the chunks that compel parts a prompt into, by its own hand."""
    texts = [each.text for each in fragments if each.text.strip()]
    counts: list[int] = []
    for encoder in _open_encoders(pipeline):
        provider = encoder.conditioning_provider
        ids = provider.get_token_ids_and_expand_weights(texts, [1.0] * len(texts), device="cpu")[0]
        counts.append(len(ids) // provider.max_token_count)
    return max(counts)


def _tokenizers(pipeline: StableDiffusionXLPipeline) -> tuple[Any, Any]:
    parts: Any = pipeline
    return parts.tokenizer, parts.tokenizer_2
