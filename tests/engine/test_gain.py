"""DoRA's gain is multiplied exactly, and its gradient read from what it was multiplied into."""

import pytest
import torch

from rasengan_xl.engine.gain import apply_gain_, gain_backward


def near_one(width: int, generator: torch.Generator, dtype=torch.float32) -> torch.Tensor:
    return (1 + 0.01 * torch.randn(width, generator=generator)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_products_of_rows_that_lie_apart_are_rounded_once(dtype):
    generator = torch.Generator().manual_seed(0)
    wider = torch.randn(9, 40, generator=generator).to(dtype)
    before, gain = wider.clone(), near_one(24, generator)
    apply_gain_(wider[:, 8:32], gain, None)
    assert torch.equal(wider[:, 8:32], (before[:, 8:32].double() * gain).to(dtype))
    assert torch.equal(wider[:, :8], before[:, :8])
    assert torch.equal(wider[:, 32:], before[:, 32:])


def test_a_gain_of_one_changes_nothing():
    product = torch.randn(9, 24).bfloat16()
    before = product.clone()
    apply_gain_(product, torch.ones(24), None)
    assert torch.equal(product, before)


def test_gradients_are_those_of_autograd():
    generator = torch.Generator().manual_seed(1)
    product = torch.randn(9, 24, generator=generator, dtype=torch.float64).requires_grad_()
    gain = near_one(24, generator, torch.float64).requires_grad_()
    upstream = torch.randn(9, 24, generator=generator, dtype=torch.float64)
    scaled = product * gain
    scaled.backward(upstream)
    with torch.no_grad():
        of_product, of_gain = gain_backward(upstream, scaled, gain)
    torch.testing.assert_close(of_product, product.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(of_gain, gain.grad, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_gain_is_summed_in_float32():
    generator = torch.Generator().manual_seed(2)
    scaled = torch.randn(4096, 8, generator=generator).bfloat16()
    upstream = torch.randn(4096, 8, generator=generator).bfloat16()
    gain = near_one(8, generator)
    of_product, of_gain = gain_backward(upstream, scaled, gain)
    exact = (upstream.double() * scaled.double()).sum(dim=0) / gain
    assert (of_product.dtype, of_gain.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(of_gain.double(), exact, rtol=1e-4, atol=1e-3)


def test_without_values_it_has_the_shapes():
    product = torch.empty(9, 24, dtype=torch.bfloat16, device="meta")
    gain = torch.empty(24, device="meta")
    apply_gain_(product, gain, None)
    of_product, of_gain = gain_backward(product, product, gain)
    assert (of_product.shape, of_product.dtype) == ((9, 24), torch.bfloat16)
    assert (of_gain.shape, of_gain.dtype) == ((24,), torch.float32)
