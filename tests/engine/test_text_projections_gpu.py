"""A base whose text projections stay in main memory, beside one that is all on the GPU."""

import pytest
import torch

from rasengan_xl.adapters.verification.probe import unet_output
from rasengan_xl.engine.caption_columns import caption_columns
from rasengan_xl.engine.weights import read_weight
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.main_memory import MainMemoryLinear
from rasengan_xl.sdxl.quantization import quantize

from ..conftest import build_tiny_unet
from .steps import attach, draw_inputs, largest_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CUDA = torch.device("cuda")


def build(precision, dtype, *, held_back):
    torch.manual_seed(0)
    unet = build_tiny_unet().to(dtype)
    columns = caption_columns(unet) if held_back else {}
    quantize(unet, Compute(CUDA, dtype), precision, columns)
    return unet.requires_grad_(requires_grad=False).eval().to(CUDA), columns


def learn(adapter, inputs, **kept):
    latents, times, text, pooled, sizes = inputs
    condition = {"text_embeds": pooled, "time_ids": sizes}
    adapter.unet.train()
    adapter.clear_gradients()
    predicted = adapter.unet(latents, times, text, added_cond_kwargs=condition, **kept).sample
    predicted.float().square().sum().backward()
    adapter.collect()
    return predicted.float(), {name: g.clone() for name, g in adapter.gradients().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("precision", ["full", "nf4", "int8"])
def test_outputs_and_gradients_are_those_with_all_on_the_gpu(precision, dtype):
    (whole, _), (held, columns) = (build(precision, dtype, held_back=h) for h in (False, True))
    bound = 1e-3 if dtype == torch.float32 else 5e-2
    before = unet_output(whole)
    assert (unet_output(held) - before).norm() < bound * before.norm()  # diffusers' own modules
    inputs = tuple(tensor.to(CUDA) for tensor in draw_inputs(dtype))
    weights = [read_weight(held.get_submodule(name)).to(CUDA) for name in columns]
    kept = torch.cat([inputs[2] @ weight.T for weight in weights], dim=-1)
    adapters = [attach(unet, base_precision=precision) for unet in (whole, held)]
    layers = [layer for layer in held.modules() if isinstance(layer, MainMemoryLinear)]
    assert len(layers) == len(columns)
    assert {layer.weight.device.type for layer in layers} == {"cpu"}
    expected, gradients = learn(adapters[0], inputs)
    for extra in ({}, {"key_values": kept}):
        found, others = learn(adapters[1], inputs, **extra)
        assert (found - expected).norm() < bound * expected.norm()
        assert largest_error(others, gradients) < bound
