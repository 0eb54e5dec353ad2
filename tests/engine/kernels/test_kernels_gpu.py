"""Kernels in Triton compute what PyTorch does, at SDXL's sizes, as exactly, and the same twice.

Where Triton is installed they can be interpreted without a GPU, slowly:

    TRITON_INTERPRET=1 pytest tests/engine/kernels/test_kernels_gpu.py
"""

import os

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from rasengan_xl.engine.kernels.availability import kernels_work, load_kernels

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (INTERPRETED or torch.cuda.is_available()), reason="no GPU"),
]

DTYPES = [torch.float32, torch.float16]
if not INTERPRETED:  # the interpreter cuts digits of bfloat16 off instead of rounding them
    DTYPES += [torch.bfloat16]
ROUNDING = {torch.float32: 2e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}
"""Largest difference from float64 in units of the numbers' own size, some roundings together."""
LAYOUTS = [torch.contiguous_format, torch.channels_last]
PICTURES = [(1, 64, 8, 8), (2, 96, 13, 19)]
MATRICES = [(5, 24), (77, 640)]
if not INTERPRETED:
    PICTURES += [(1, 320, 128, 128), (2, 640, 104, 152), (1, 960, 64, 64), (2, 2560, 16, 16)]
    PICTURES += [(1, 1920, 52, 76), (4, 320, 64, 64)]
    MATRICES += [(4096, 640), (1027, 1280), (32768, 1280), (256, 10240)]


def draw(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return torch.randn(*shape, generator=generator, device=DEVICE).to(dtype)


def assert_close(ours: torch.Tensor, exact: torch.Tensor, dtype: torch.dtype) -> None:
    tolerance = ROUNDING[dtype]
    scale = exact.abs().mean().item()
    torch.testing.assert_close(
        ours.double(), exact, rtol=tolerance, atol=tolerance * max(scale, 1e-3)
    )


def test_they_are_found_to_work():
    assert kernels_work(torch.device(DEVICE))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", MATRICES)
def test_geglu_and_its_gradient(shape, dtype):
    rows, hidden = shape
    kernels = load_kernels("geglu")
    projected = draw(rows, 2 * hidden + 8, dtype=dtype)[:, 8:]
    upstream = draw(rows, hidden, dtype=dtype, seed=1)
    exact = projected.double().requires_grad_()
    value, gate = exact.chunk(2, dim=-1)
    made = value * F.gelu(gate)
    made.backward(upstream.double())
    assert_close(kernels.forward(projected), made.detach(), dtype)
    assert_close(kernels.backward_(projected, upstream), exact.grad, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", MATRICES)
def test_a_gain_and_its_gradient(shape, dtype):
    kernels = load_kernels("gain")
    rows, columns = shape
    wider = draw(rows, columns + 16, dtype=dtype)
    product, before = wider[:, 8:-8], wider.clone()
    gain = 1 + 0.01 * draw(columns, dtype=torch.float32, seed=1)
    kernels.apply_(product, gain, None)
    assert torch.equal(product, (before[:, 8:-8].float() * gain).to(dtype))
    assert torch.equal(wider[:, :8], before[:, :8])
    assert torch.equal(wider[:, -8:], before[:, -8:])
    upstream = draw(rows, columns, dtype=dtype, seed=2)
    of_product, of_gain = kernels.backward(upstream, product, gain, None)
    assert torch.equal(of_product, (upstream.float() * gain).to(dtype))
    exact = (upstream.double() * product.double()).sum(dim=0) / gain.double()
    torch.testing.assert_close(of_gain.double(), exact, rtol=1e-4, atol=1e-4 * rows**0.5)
    assert torch.equal(of_gain, kernels.backward(upstream, product, gain, None)[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", MATRICES)
def test_a_shift_beside_the_gain(shape, dtype):
    kernels = load_kernels("gain")
    rows, columns = shape
    product, upstream = draw(rows, columns, dtype=dtype), draw(rows, columns, dtype=dtype, seed=2)
    gain, shift = (1 + 0.01 * draw(columns, dtype=torch.float32, seed=seed) for seed in (1, 3))
    exact = product.double() * gain + shift
    kernels.apply_(product, gain, shift)
    assert_close(product, exact, dtype)
    of_gain = kernels.backward(upstream, product, gain, shift)[1]
    exact = (upstream.double() * (product.double() - shift)).sum(dim=0) / gain.double()
    torch.testing.assert_close(of_gain.double(), exact, rtol=1e-4, atol=1e-4 * rows**0.5)


def make_norm(channels: int, dtype: torch.dtype) -> nn.GroupNorm:
    norm = nn.GroupNorm(32, channels, eps=1e-5, device=DEVICE).requires_grad_(False)
    norm.weight.copy_(draw(channels, dtype=torch.float32, seed=3))
    norm.bias.copy_(draw(channels, dtype=torch.float32, seed=4))
    return norm.to(dtype)


def exact_norm(pictures, shift, norm, upstream, *, activate):
    """Return values and gradient by PyTorch in float64."""
    pictures = pictures.double().requires_grad_()
    shifted = pictures if shift is None else pictures + shift.double()[:, :, None, None]
    parts = norm.weight.double(), norm.bias.double()
    made = F.group_norm(shifted, norm.num_groups, *parts, norm.eps)
    made = F.silu(made) if activate else made
    made.backward(upstream.double())
    return made.detach(), pictures.grad


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shifted", "activate"), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", PICTURES)
def test_group_norm_and_its_gradient(shape, shifted, activate, layout, dtype):
    kernels = load_kernels("group_norm")
    norm = make_norm(shape[1], dtype)
    far_off = 5 * draw(1, shape[1], 1, 1, dtype=dtype, seed=5)
    pictures = (draw(*shape, dtype=dtype) + far_off).contiguous(memory_format=layout)
    shift = draw(*shape[:2], dtype=dtype, seed=1) if shifted else None
    upstream = draw(*shape, dtype=dtype, seed=2).contiguous(memory_format=layout)
    made, *statistics = kernels.forward(pictures, shift, norm, activate=activate)
    kept = kernels.Normalized(pictures, *statistics)
    gradient = kernels.backward(upstream, kept, shift, norm, activate=activate)
    exact, exact_gradient = exact_norm(pictures, shift, norm, upstream, activate=activate)
    assert_close(made, exact, dtype)
    assert_close(gradient, exact_gradient, dtype)
    assert made.is_contiguous(memory_format=layout)
    assert gradient.is_contiguous(memory_format=layout)
    assert torch.equal(gradient, kernels.backward(upstream, kept, shift, norm, activate=activate))
