"""Random adapters on the layers of the mini model, for what needs no training."""

from dataclasses import replace
from pathlib import Path

import torch

from rasengan_xl.adapters.base import Base
from rasengan_xl.adapters.changes import (
    Change,
    Decomposed,
    Dense,
    Hadamard,
    Kronecker,
    LowRank,
)
from rasengan_xl.adapters.contents import AdapterContents

BLOCK = "unet.mid_block.attentions.0.transformer_blocks.0."
ATTENTION = tuple(
    f"{BLOCK}{attn}.{name}" for attn in ("attn1", "attn2") for name in ("to_q", "to_k", "to_out.0")
)
FEED_FORWARD = (f"{BLOCK}ff.net.0.proj", f"{BLOCK}ff.net.2")
CONVOLUTION = "unet.up_blocks.0.upsamplers.0.conv"
TEXT = (
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
    "text_encoder_2.text_model.encoder.layers.0.self_attn.out_proj",
    "text_encoder_2.text_model.encoder.layers.1.mlp.fc1",
)
EVERYWHERE = (*ATTENTION, *FEED_FORWARD, CONVOLUTION, *TEXT)


def random_contents(base: Base, kind: str, layers=EVERYWHERE, rank=4, alpha=6.0) -> AdapterContents:
    generator = torch.Generator().manual_seed(1)
    changes = {
        layer: random_change(kind, base.weight(layer), rank, alpha, generator) for layer in layers
    }
    return AdapterContents(source=Path("random"), form=kind, changes=changes, header={})


def random_change(kind, weight, rank, alpha, generator) -> Change:
    def randn(*shape):
        return torch.randn(shape, generator=generator)

    plain = random_lora(weight, rank, alpha, randn)
    match kind:
        case "dora":
            return decomposed(plain, weight, "output", randn)
        case "dora-by-input":
            return decomposed(plain, weight, "input", randn)
        case "rslora":
            return replace(plain, rank_stabilized=True)
        case "tucker" if weight.dim() > 2:
            core = randn(rank, rank, *weight.shape[2:])
            return replace(plain, down=plain.down[..., :1, :1], mid=core)
        case "lora" | "tucker":
            return plain
    return random_product(kind, weight, alpha, randn)


def random_lora(weight, rank, alpha, randn) -> LowRank:
    out, into, *kernel = weight.shape
    ones = (1,) * len(kernel)
    return LowRank(
        down=randn(rank, into, *kernel) * 0.1, up=randn(out, rank, *ones) * 0.1, alpha=alpha
    )


def random_product(kind, weight, alpha, randn) -> Change:
    out, into, *kernel = weight.shape
    match kind:
        case "loha":
            first, second = (
                (randn(out, 2) * 0.3, randn(2, weight[0].numel()) * 0.3) for _ in range(2)
            )
            return Hadamard(first=first, second=second, alpha=alpha)
        case "lokr":
            second = randn(out // 4, into // 4, *kernel) * 0.1
            return Kronecker(first=(randn(4, 4) * 0.3,), second=(second,), alpha=alpha)
        case "dense":
            return Dense(change=randn(*weight.shape) * 0.01)
    raise AssertionError(kind)


def decomposed(plain: LowRank, weight: torch.Tensor, axis: str, randn) -> Decomposed:
    length = weight.shape[0 if axis == "output" else 1]
    unit = Decomposed(direction=plain, magnitude=torch.ones(length), axis=axis)
    magnitude = (1 / unit.gain(weight)).flatten() * (1 + 0.1 * randn(length))
    return Decomposed(direction=plain, magnitude=magnitude, axis=axis)


def finish(work):
    """Go through a piece of work, and return what it comes to."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
