"""What only a GPU can tell of attention: which kernels there are, and whether they are right."""

import pytest
import torch

from rasengan_xl.engine import attention_choice
from rasengan_xl.engine.attention import attend
from rasengan_xl.engine.attention_choice import (
    LARGEST_ERROR,
    AttentionShape,
    measure_fastest,
    recall_or_measure,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CUDA = torch.device("cuda")
SHAPES = [(4096, 4096, 10), (4096, 77, 10), (1024, 1024, 20), (1024, 77, 20)]
"""Tokens, keys and heads of SDXL at 1024 px."""


def draw(tokens: int, width: int) -> torch.Tensor:
    return torch.randn(1, tokens, width, device=CUDA, dtype=torch.float16)


@pytest.mark.parametrize(("tokens", "keys", "heads"), SHAPES)
def test_the_measured_kernel_computes_what_float32_does(tokens: int, keys: int, heads: int):
    torch.manual_seed(0)
    query, gradient = draw(tokens, heads * 64), draw(tokens, heads * 64)
    words = draw(keys, 2 * heads * 64)
    found, expected = [], []
    for kernel, results in (("auto", found), ("math", expected)):
        as_type = torch.float16 if kernel == "auto" else torch.float32
        own = [tensor.to(as_type).detach().requires_grad_() for tensor in (query, words)]
        key, value = own[1].chunk(2, dim=-1)
        output = attend(own[0], key, value, heads, kernel)
        results += [output, *torch.autograd.grad(output, own, gradient.to(as_type))]
    for own, right in zip(found, expected, strict=True):
        assert (own.float() - right).norm() < LARGEST_ERROR * right.norm()


def shape_of(**sizes):
    return AttentionShape(
        heads=10,
        head_width=64,
        dtype=torch.float16,
        device=CUDA,
        is_differentiated=True,
        **sizes,
    )


def test_measuring_leaves_generators_and_memory_alone():
    shape = shape_of(batch=2, query_tokens=1024, key_tokens=1024)
    measure_fastest(shape)  # libraries take their workspaces the first time
    before = torch.cuda.get_rng_state(), torch.cuda.memory_allocated()
    assert measure_fastest(shape) is not None
    assert torch.equal(torch.cuda.get_rng_state(), before[0])
    assert torch.cuda.memory_allocated() == before[1]


def test_a_choice_is_the_same_when_asked_again():
    shape = shape_of(batch=1, query_tokens=256, key_tokens=77)
    first = recall_or_measure(shape)
    attention_choice._recall_or_measure.cache_clear()
    assert recall_or_measure(shape) == first is not None
