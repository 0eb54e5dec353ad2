import bitsandbytes as bnb
import torch
from peft.utils.integrations import dequantize_module_weight

from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.nf4_layers import round_to_nf4
from rasengan_xl.sdxl.quantization import quantize

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
