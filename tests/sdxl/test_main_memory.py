import pytest
import torch
from torch import nn

from rasengan_xl.config.base_precisions import STORAGES
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.quantization import hold_back, quantize
from rasengan_xl.sdxl.stored_tensors import list_tensors

from ..conftest import build_tiny_unet

CPU, META = torch.device("cpu"), torch.device("meta")
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.mark.parametrize("precision", STORAGES)
def test_a_layer_held_back_is_the_one_that_would_be_there(precision):
    """Same names, same numbers, same product: only where it lies is another matter."""
    unets = []
    for held_back in ([], [LAYER]):
        torch.manual_seed(0)
        unet = build_tiny_unet().eval()
        quantize(unet, Compute(CPU, torch.float32), precision, held_back)
        unets.append(unet)
    there, held = (list_tensors(unet) for unet in unets)
    assert held.keys() == there.keys()
    assert all(torch.equal(held[name], there[name]) for name in there)
    given = torch.randn(2, 77, 128)
    expected, found = (unet.get_submodule(LAYER)(given) for unet in unets)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("precision", STORAGES)
def test_a_layer_stays_where_it_is_when_its_model_moves(precision):
    compute = Compute(META, torch.float32)
    held = hold_back(nn.Linear(64, 64, bias=False), compute, precision)
    model = nn.Sequential(held, nn.Linear(64, 64)).to(META)
    assert model[1].weight.is_meta
    assert {tensor.device for tensor in list_tensors(held).values()} == {CPU}
    assert held(torch.empty(3, 64, device=META)).is_meta
