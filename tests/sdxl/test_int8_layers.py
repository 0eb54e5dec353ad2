import pytest
import torch
from torch import nn
from torch.nn import functional

from rasengan_xl.sdxl.int8_layers import Int8Conv2d, Int8Linear, read_int8, round_to_int8

CPU = torch.device("cpu")


def make(kind: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, torch.Tensor]:
    """Return a layer of 8-bit weights, and an input of it."""
    torch.manual_seed(0)
    if kind == "linear":
        return Int8Linear(nn.Linear(24, 16, dtype=dtype), CPU), torch.randn(5, 24, dtype=dtype)
    strided = nn.Conv2d(6, 8, 3, stride=2, padding=1, dtype=dtype)
    return Int8Conv2d(strided, CPU), torch.randn(2, 6, 9, 7, dtype=dtype)


@pytest.mark.parametrize("shape", [(64, 640), (32, 10240), (8, 320, 3, 3)])
def test_rows_of_gaussian_weights_are_less_than_one_percent_off(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    rounded, scale = round_to_int8(weight)
    assert rounded.dtype == torch.int8
    assert rounded.flatten(1).abs().amax(1).eq(127).all()
    off = (rounded * scale - weight).flatten(1).norm(dim=1) / weight.flatten(1).norm(dim=1)
    assert 0.001 < off.mean() < 0.01
    assert off.max() < 0.012, "the largest of 10,240 may lie at 4.6 deviations"


def test_a_row_of_zeros_stays_one():
    rounded, scale = round_to_int8(torch.zeros(2, 3))
    assert torch.equal(rounded * scale, torch.zeros(2, 3))


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_output_and_gradient_are_those_of_the_layer_read_back(kind):
    layer, given = make(kind, torch.float64)
    weight, bias = read_int8(layer), layer.bias
    ours, theirs = given.clone().requires_grad_(), given.clone().requires_grad_()
    output = layer(ours)
    if kind == "linear":
        wanted = functional.linear(theirs, weight, bias)
    else:
        wanted = functional.conv2d(theirs, weight, bias, layer.stride, layer.padding)
    back = torch.randn(wanted.shape, dtype=wanted.dtype)
    output.backward(back)
    wanted.backward(back)
    torch.testing.assert_close(output, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_a_layer_keeps_nothing_of_its_input(kind):
    layer, given = make(kind)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(given.requires_grad_())
    assert not kept


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_a_layer_computes_in_its_own_precision_under_autocast(kind):
    layer, given = make(kind, torch.bfloat16)
    given = given.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(given)
    assert output.dtype == torch.bfloat16
    output.sum().backward()
    assert given.grad is not None
    assert given.grad.dtype == torch.float32


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_names_and_kinds_are_those_of_the_plain_layer(kind):
    layer, _ = make(kind)
    assert isinstance(layer, nn.Linear if kind == "linear" else nn.Conv2d)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert [name for name, _ in layer.named_buffers()] == ["scale"]
    assert not any(p.requires_grad for p in layer.parameters())


def test_weights_by_place_are_read_in_the_order_in_which_they_are_stored():
    layer, _ = make("convolution")
    plain = read_int8(layer)
    layer.to(memory_format=torch.channels_last)
    read = read_int8(layer)
    assert read.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(read, plain)
