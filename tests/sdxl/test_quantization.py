import weakref

import bitsandbytes as bnb
import pytest
import torch
from peft.utils.integrations import dequantize_module_weight

from rasengan_xl.sdxl import quantization
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.full_size import build_full_size_unet
from rasengan_xl.sdxl.nf4_layers import round_to_nf4
from rasengan_xl.sdxl.quantization import linears_to_quantize, quantize
from rasengan_xl.sdxl.stored_tensors import constant_bytes, list_tensors, stored_bytes
from rasengan_xl.sdxl.stores import store_of

from ..conftest import build_tiny_unet

CPU = Compute(torch.device("cpu"), torch.float32)


def test_every_linear_layer_becomes_nf4_with_double_quantization(tiny_unet):
    quantize(tiny_unet, CPU, "nf4")
    linears = [m for m in tiny_unet.modules() if isinstance(m, torch.nn.Linear)]
    assert linears
    for linear in linears:
        assert isinstance(linear, bnb.nn.Linear4bit)
        assert linear.weight.quant_state.quant_type == "nf4"
        assert linear.weight.quant_state.blocksize == 64
        assert linear.weight.quant_state.nested
        assert linear.weight.numel() * 2 == linear.in_features * linear.out_features


def test_a_quantized_layer_is_near_the_full_one_and_evaluation_does_not_change_it(tiny_unet):
    name = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    inputs = torch.randn(3, 256, generator=torch.Generator().manual_seed(0))
    exact = tiny_unet.get_submodule(name)(inputs)
    quantize(tiny_unet, CPU, "nf4")
    layer = tiny_unet.get_submodule(name)
    while_training = layer.train()(inputs)
    stored = layer.weight.data.clone()
    with torch.no_grad():
        evaluated = layer.eval()(inputs)
    assert torch.equal(evaluated, while_training)
    assert torch.equal(layer.weight.data, stored)
    error = (while_training - exact).norm() / exact.norm()
    assert 0.01 < error < 0.2


def test_rounding_to_nf4_gives_what_a_quantized_layer_holds(tiny_unet):
    name = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    rounded = round_to_nf4(tiny_unet.get_submodule(name).weight.data)
    quantize(tiny_unet, CPU, "nf4")
    layer = tiny_unet.get_submodule(name)
    assert torch.equal(dequantize_module_weight(layer).float(), rounded)


@pytest.mark.parametrize("precision", ["nf4", "nf4-small", "int8"])
def test_names_of_weights_are_those_of_the_plain_unet(tiny_unet, precision):
    names = [name for name, _ in tiny_unet.named_parameters()]
    layers = {name: type(layer) for name, layer in tiny_unet.named_modules()}
    quantize(tiny_unet, CPU, precision)
    assert [name for name, _ in tiny_unet.named_parameters()] == names
    for name, layer in tiny_unet.named_modules():
        assert isinstance(layer, layers[name])
        is_first_or_last = name in {"conv_in", "conv_out"}
        is_convolution = isinstance(layer, torch.nn.Conv2d)
        if is_first_or_last or (is_convolution and precision == "nf4"):
            assert store_of(layer) == "compute"
        elif isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            assert store_of(layer) == ("int8" if precision == "int8" or is_convolution else "nf4")


@pytest.mark.parametrize(("precision", "gib"), [("nf4", 1.69), ("nf4-small", 1.38), ("int8", 2.39)])
def test_without_values_the_full_size_unet_takes_the_bytes_that_it_will(precision, gib):
    meta = Compute(torch.device("meta"), torch.bfloat16)
    with meta.device:
        unet = build_full_size_unet()
    for parameter in unet.parameters():
        parameter.data = parameter.data.to(meta.dtype)
    quantize(unet, meta, precision)
    assert stored_bytes(unet) / 2**30 == pytest.approx(gib, rel=0.02)
    assert 0 < constant_bytes(unet) < stored_bytes(unet) / 40


@pytest.mark.parametrize("precision", ["full", "nf4", "nf4-small", "int8"])
def test_without_values_it_takes_the_bytes_that_it_takes_with_them(tiny_unet, precision):
    with torch.device("meta"):
        shape = build_tiny_unet()
    quantize(shape, Compute(torch.device("meta"), torch.float32), precision)
    quantize(tiny_unet, CPU, precision)
    sizes = {name: tensor.shape for name, tensor in list_tensors(tiny_unet).items()}
    assert {name: tensor.shape for name, tensor in list_tensors(shape).items()} == sizes
    assert stored_bytes(shape) == stored_bytes(tiny_unet)


def test_a_layer_is_let_go_once_it_is_stored(tiny_unet):
    whole = [weakref.ref(layer) for _, layer in linears_to_quantize(tiny_unet)]
    held: list[int] = []

    def count(*_: object) -> None:
        held.append(sum(layer() is not None for layer in whole))

    with pytest.MonkeyPatch.context() as patch:
        real = quantization.store_in_nf4
        patch.setattr(quantization, "store_in_nf4", lambda *a: (count(), real(*a))[1])
        quantize(tiny_unet, CPU, "nf4")
    assert held == list(range(len(whole), 0, -1))
