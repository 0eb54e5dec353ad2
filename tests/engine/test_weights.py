import pytest
import torch
from torch import nn

from rasengan_xl.engine.frozen_linear import FrozenLinear, frozen_linear, replace_linears
from rasengan_xl.engine.weights import (
    is_plain,
    read_briefly,
    read_weight,
    release_scratch,
    reserve_scratch,
    scratch,
    weight_shape,
)
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.int8_layers import Int8Conv2d, Int8Linear
from rasengan_xl.sdxl.nf4_layers import store_in_nf4
from rasengan_xl.sdxl.stores import store_of

CPU, META = torch.device("cpu"), torch.device("meta")
STORES = ("plain", "nf4", "int8")


@pytest.fixture(autouse=True)
def without_scratch():
    yield
    release_scratch()


def make(
    store: str, dtype: torch.dtype = torch.float32, width: int = 128, device: torch.device = CPU
) -> tuple[nn.Linear, nn.Linear]:
    """Return a layer of random weights, and the same stored in fewer bits."""
    torch.manual_seed(0)
    plain = nn.Linear(width, 64, device=device, dtype=dtype)
    if store == "plain":
        return plain, plain
    stored = Int8Linear(plain, device)
    return plain, stored if store == "int8" else store_in_nf4(plain, Compute(device, dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("store", STORES)
def test_a_weight_is_read_in_its_compute_precision_wherever_it_is_wanted(store, dtype):
    plain, layer = make(store, dtype)
    weight = read_weight(layer)
    assert (weight.dtype, weight.shape) == (dtype, weight_shape(layer))
    assert (weight - plain.weight).norm() / plain.weight.norm() < 0.15
    if store == "plain":
        assert is_plain(layer)
        assert weight.data_ptr() == layer.weight.data_ptr()
        return
    assert not is_plain(layer)
    rows = torch.empty(3 * 64, 128, dtype=dtype)
    assert read_weight(layer, rows[64:128]).data_ptr() == rows[64:128].data_ptr()
    assert torch.equal(rows[64:128], weight)
    assert torch.equal(read_briefly(layer), weight)


@pytest.mark.parametrize("store", STORES)
def test_on_the_meta_device_a_weight_has_its_shape(store):
    _, layer = make(store, torch.bfloat16, device=META)
    for weight in (read_weight(layer), read_briefly(layer)):
        assert weight.is_meta
        assert (weight.dtype, weight.shape) == (torch.bfloat16, (64, 128))
    assert frozen_linear(torch.empty(5, 128, device=META), layer).shape == (5, 64)


def test_layers_share_memory_that_stays_where_it_was_reserved():
    layers = nn.ModuleList([make("int8", width=width)[1] for width in (64, 256, 128)])
    reserve_scratch(layers)
    places = {read_briefly(layer).data_ptr() for layer in layers}
    assert places == {scratch((1,), CPU, torch.float32).data_ptr()}


def test_a_convolution_by_place_is_read_by_place():
    layer = Int8Conv2d(nn.Conv2d(8, 16, 3), CPU).to(memory_format=torch.channels_last)
    weight = read_briefly(layer)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(weight, read_weight(layer))


@pytest.mark.parametrize("store", STORES)
def test_output_and_gradient_are_those_of_the_layer_read_back(store):
    _, layer = make(store, torch.float64)
    layer.requires_grad_(requires_grad=False)
    given = torch.randn(2, 5, 128, dtype=torch.float64)
    ours, theirs = given.clone().requires_grad_(), given.clone().requires_grad_()
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        output = frozen_linear(ours, layer)
    wanted = nn.functional.linear(theirs, read_weight(layer), layer.bias)
    back = torch.randn_like(wanted)
    output.backward(back)
    wanted.backward(back)
    assert not kept
    torch.testing.assert_close(output, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("store", STORES)
def test_an_input_in_float32_comes_out_in_the_compute_precision(store):
    _, layer = make(store, torch.bfloat16)
    given = torch.randn(5, 128, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = frozen_linear(given, layer)
    assert output.dtype == torch.bfloat16
    output.sum().backward()
    assert given.grad is not None
    assert given.grad.dtype == torch.float32


@pytest.mark.parametrize("store", ["nf4", "int8"])
def test_layers_in_fewer_bits_are_replaced_under_their_names(store):
    _, layer = make(store, torch.bfloat16)
    model = nn.Sequential(layer, nn.Linear(64, 64, dtype=torch.bfloat16))
    names, plain = list(model.state_dict()), model[1]
    replace_linears(model)
    assert isinstance(model[0], FrozenLinear)
    assert model[1] is plain
    assert [n for n, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert set(dict(model.named_buffers())) <= set(names)
    assert store_of(model[0]) == store
    assert model[0].weight is layer.weight
    given = torch.randn(3, 128)
    assert torch.equal(model[0](given), frozen_linear(given, layer))
    assert model[0](given).dtype == torch.bfloat16, "bitsandbytes' own would give float32"
