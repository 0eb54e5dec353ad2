"""SDXL's transformer, computed by grouped projections, in the shells of diffusers' modules."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import checkpoint as checkpointing

from rasengan_xl.engine.attention import Kernel, attend
from rasengan_xl.engine.feed_forward import FeedForward, KeepingFeedForward
from rasengan_xl.engine.projecting import Projection
from rasengan_xl.engine.text_projections import TextProjections

_checkpoint: Any = cast("Any", checkpointing).checkpoint  # carries no types

Tokens = Float[Tensor, "batch token feature"]
Caption = Float[Tensor, "batch word text_feature"]
Keys = Float[Tensor, "batch word feature"]
Picture = Float[Tensor, "batch channel height width"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSource:
    """Where a block has its keys and values of the caption from."""

    shared: TextProjections | None
    """Of all blocks; None: it computes its own."""
    places: tuple[int, int] = (0, 0)
    own: Projection | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockParts:
    """What a transformer block computes with."""

    to_query_key_value: Projection
    to_output: Projection
    to_query: Projection
    text: TextSource
    to_text_output: Projection
    feed_forward: FeedForward | KeepingFeedForward
    heads: int
    kernel: Kernel
    """Of attention."""


class TransformerBlock(nn.Module):
    """In place of diffusers' BasicTransformerBlock, whose children it takes over."""

    def __init__(self, block: nn.Module, parts: BlockParts, *, recompute: bool) -> None:
        """Take over a block's weights.

        Args:
            block: One of SDXL's.
            parts: How it computes.
            recompute: Whether to keep what it starts from only.
        """
        super().__init__()
        for name, child in block.named_children():
            self.add_module(name, child)
        self._parts = parts
        self._recompute = recompute
        self.train(block.training)

    def forward(
        self,
        hidden_states: Tokens,
        attention_mask: None = None,
        encoder_hidden_states: Caption | None = None,
        encoder_attention_mask: None = None,
        **_unused: Any,
    ) -> Tokens:
        """Attend to the picture, then to the caption, then transform each token."""
        assert attention_mask is None
        assert encoder_attention_mask is None
        text = self._text(encoder_hidden_states)
        if self._recompute and torch.is_grad_enabled():
            return _checkpoint(
                self._compute,
                hidden_states,
                *text,
                use_reentrant=False,
                preserve_rng_state=self.draws_by_chance,
            )
        return self._compute(hidden_states, *text)

    @property
    def draws_by_chance(self) -> bool:
        """Whether the adapter's dropout is at work in anything that is computed again."""
        parts = self._parts
        computed = (
            parts.to_query_key_value,
            parts.to_output,
            parts.to_query,
            parts.to_text_output,
            parts.feed_forward,
        )
        return self.training and any(part.draws_by_chance for part in computed)

    def _text(self, encoder_hidden_states: Caption | None) -> tuple[Keys, Keys]:
        source = self._parts.text
        if source.shared is not None:
            return source.shared.take(*source.places)
        assert source.own is not None
        assert encoder_hidden_states is not None
        key, value = source.own(encoder_hidden_states, training=self.training)
        return key, value

    def _compute(self, hidden: Tokens, text_key: Keys, text_value: Keys) -> Tokens:
        parts, training = self._parts, self.training
        norm: Any = self.norm1
        query, key, value = parts.to_query_key_value(hidden, norm, training=training)
        attended = attend(query, key, value, parts.heads, parts.kernel)
        hidden = hidden + parts.to_output(attended, training=training)[0]
        norm = self.norm2
        (query,) = parts.to_query(hidden, norm, training=training)
        attended = attend(query, text_key, text_value, parts.heads, parts.kernel)
        hidden = hidden + parts.to_text_output(attended, training=training)[0]
        norm = self.norm3
        return hidden + parts.feed_forward(hidden, norm, training=training)


class Transformer(nn.Module):
    """In place of diffusers' Transformer2DModel, whose children it takes over.

    It leaves pictures in the order of numbers in which they come.
    """

    def __init__(self, transformer: nn.Module, enter: Projection, leave: Projection) -> None:
        """Take over a transformer's weights.

        Args:
            transformer: With linear projections.
            enter: From a picture's channels to the width of tokens.
            leave: Back again.
        """
        super().__init__()
        for name, child in transformer.named_children():
            self.add_module(name, child)
        self._enter, self._leave = enter, leave
        self.train(transformer.training)

    def forward(
        self,
        hidden_states: Picture,
        encoder_hidden_states: Caption | None = None,
        attention_mask: None = None,
        encoder_attention_mask: None = None,
        **_unused: Any,
    ) -> tuple[Picture]:
        """Turn a picture into tokens, pass them through the blocks, and add them to it."""
        batch, channels, height, width = hidden_states.shape
        norm: Any = self.norm
        normed = norm(hidden_states)
        tokens = normed.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        (tokens,) = self._enter(tokens, training=self.training)
        blocks: Any = self.transformer_blocks
        for block in blocks:
            tokens = block(
                tokens,
                attention_mask=attention_mask,
                encoder_hidden_states=encoder_hidden_states,
                encoder_attention_mask=encoder_attention_mask,
            )
        (tokens,) = self._leave(tokens, training=self.training)
        picture = tokens.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        if hidden_states.is_contiguous():
            picture = picture.contiguous()
        return (picture + hidden_states,)
