"""The gated unit and its gradient are PyTorch's."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from rasengan_xl.engine.geglu import geglu, geglu_backward_


def reference(projected):
    value, gate = projected.chunk(2, dim=-1)
    return value * F.gelu(gate)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_unit_is_that_of_diffusers_bit_for_bit(dtype):
    projected = torch.randn(7, 2 * 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(geglu(projected), reference(projected))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 4e-3), (torch.float16, 5e-4)],
)
def test_its_gradient_is_that_of_autograd_rounded_once(dtype, tolerance):
    generator = torch.Generator().manual_seed(1)
    projected = (3 * torch.randn(50, 2 * 24, generator=generator)).to(dtype)
    upstream = torch.randn(50, 24, generator=generator).to(dtype)
    exact = projected.double().clone().requires_grad_()
    reference(exact).backward(upstream.double())
    given = geglu_backward_(projected, upstream)
    assert given.dtype == dtype
    torch.testing.assert_close(given.double(), exact.grad, rtol=tolerance, atol=tolerance)


def test_without_values_it_has_the_shapes():
    projected = torch.empty(7, 48, dtype=torch.bfloat16, device="meta")
    made = geglu(projected)
    assert (made.shape, made.dtype, made.is_meta) == ((7, 24), torch.bfloat16, True)
    given = geglu_backward_(projected, made)
    assert (given.shape, given.dtype, given.is_meta) == ((7, 48), torch.bfloat16, True)
