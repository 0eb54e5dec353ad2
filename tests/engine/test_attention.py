import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from rasengan_xl.engine.attention import attend
from rasengan_xl.errors import DeviceError

BATCH, TOKENS, WORDS, HEADS, WIDTH = 2, 16, 7, 2, 8


def draw(tokens: int, parts: int, **how) -> torch.Tensor:
    return torch.randn(BATCH, tokens, parts * WIDTH, dtype=torch.float64, **how)


def weigh(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The formula itself, head by head."""
    found = []
    for part in range(HEADS):
        columns = slice(part * WIDTH // HEADS, (part + 1) * WIDTH // HEADS)
        q, k, v = (tensor[..., columns] for tensor in (query, key, value))
        found.append((q @ k.mT / (WIDTH // HEADS) ** 0.5).softmax(-1) @ v)
    return torch.cat(found, -1)


@pytest.mark.parametrize("kernel", ["auto", "default", "math"])
def test_each_head_weighs_all_values(kernel: str):
    torch.manual_seed(0)
    query, key, value = draw(TOKENS, 1), draw(WORDS, 1), draw(WORDS, 1)
    torch.testing.assert_close(
        attend(query, key, value, HEADS, kernel), weigh(query, key, value), rtol=0, atol=1e-14
    )


def test_gradients_reach_the_buffer_that_all_three_are_views_of():
    torch.manual_seed(0)
    buffer, gradient = draw(TOKENS, 3, requires_grad=True), draw(TOKENS, 1)
    found, expected = (
        torch.autograd.grad(output, buffer, gradient)[0]
        for output in (
            attend(*buffer.chunk(3, dim=-1), HEADS, "auto"),
            weigh(*buffer.chunk(3, dim=-1)),
        )
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_a_kernel_that_the_device_lacks_is_refused():
    query = draw(TOKENS, 1)
    with pytest.raises(DeviceError, match=r"engine.attention = 'cudnn': .*use 'auto'"):
        attend(query, query, query, HEADS, "cudnn")


def test_what_is_kept_on_meta_is_what_a_gpu_keeps():
    query = torch.empty(2, 4096, 640, device="meta", dtype=torch.bfloat16, requires_grad=True)
    words = torch.empty(2, 77, 1280, device="meta", dtype=torch.bfloat16, requires_grad=True)
    kept: list[torch.Tensor] = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t),
        FlopCounterMode(display=False) as counter,
    ):
        output = attend(query, *words.chunk(2, dim=-1), 10, "auto")
    bytes_kept = sum(tensor.nbytes for tensor in kept if tensor.is_floating_point())
    token_bytes, word_bytes, norm_bytes = 2 * 2 * 4096 * 640, 2 * 2 * 77 * 640, 4 * 2 * 10 * 4096
    assert bytes_kept == 2 * token_bytes + 2 * word_bytes + norm_bytes
    assert output.shape == (2, 4096, 640)
    assert output.is_contiguous()
    assert counter.get_total_flops() == 2 * 2 * 2 * 4096 * 77 * 640
    with FlopCounterMode(display=False) as counter:
        output.sum().backward()
    assert words.grad.shape == words.shape
    assert counter.get_total_flops() == 5 * 2 * 2 * 4096 * 77 * 640


def test_attention_is_as_pytorch_has_it_to_the_bit():
    query = draw(TOKENS, 1)
    parts = [query.view(BATCH, TOKENS, HEADS, -1).transpose(1, 2)] * 3
    expected = scaled_dot_product_attention(*parts).transpose(1, 2).reshape(query.shape)
    assert torch.equal(attend(query, query, query, HEADS, "default"), expected)
