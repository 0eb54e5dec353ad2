"""Adapters on every kind of frozen base, beside PEFT's on the weights that it is read back as."""

import pytest
import torch

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.verification.fingerprint import take_fingerprint
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.weights import read_weight
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.quantization import quantize

from ..conftest import build_tiny_unet

CPU = Compute(torch.device("cpu"), torch.float64)
SINGLE = Compute(torch.device("cpu"), torch.float32)
ROUNDED = ("nf4", "nf4-small", "int8")


def build(precision: str, compute: Compute = CPU):
    torch.manual_seed(0)
    unet = build_tiny_unet().to(compute.dtype)
    quantize(unet, compute, precision)
    return unet


def read_back(precision: str):
    """Return a plain UNet of the weights that a quantized one stands for."""
    plain, layers = build("full"), dict(build(precision).named_modules())
    with torch.no_grad():
        for name, layer in plain.named_modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                layer.weight.copy_(read_weight(layers[name]))
    return plain


def attach(unet, implementation: str, *, decompose: bool, **options: object):
    settings = AdapterSettings(rank=2, decompose=decompose, targets=("to_q", "to_k", "ff.net.2"))
    options = EngineOptions(implementation=implementation, **options)
    adapter = attach_adapter(unet, settings, seed=3, options=options)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for _, weights in sorted(adapter.parameters.items()):
            weights.add_(torch.randn(weights.shape, generator=generator), alpha=0.02)
    adapter.settle()
    return adapter


def compute(adapter, dtype: torch.dtype = torch.float64):
    """Return output and gradients of fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    latents, text, pooled = (
        torch.randn(shape, generator=generator).to(dtype)
        for shape in ((2, 4, 8, 8), (2, 77, 128), (2, 64))
    )
    condition = {"text_embeds": pooled, "time_ids": torch.full((2, 6), 32)}
    given = (latents, torch.tensor([3, 900]), text)
    output = adapter.unet(*given, added_cond_kwargs=condition).sample
    output.square().mean().backward()
    adapter.collect()
    return output.detach(), adapter.gradients()


@pytest.mark.parametrize("decompose", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("precision", ROUNDED)
def test_outputs_and_gradients_are_pefts_on_the_weights_read_back(precision, decompose):
    theirs, wanted = compute(attach(read_back(precision), "peft", decompose=decompose))
    ours, found = compute(attach(build(precision), "fused", decompose=decompose))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        size = gradient.norm().clamp(min=1e-9)
        assert (found[name] - gradient).norm() / size < 1e-4, name


@pytest.mark.parametrize("precision", ROUNDED)
def test_pefts_layers_train_on_every_base(precision):
    adapter = attach(build(precision, SINGLE), "peft", decompose=False)
    _, gradients = compute(adapter, torch.float32)
    assert len(gradients) == len(adapter.parameters)
    assert all(gradient.norm() > 0 for gradient in gradients.values())


def test_pefts_dora_is_refused_where_it_would_misread_weights():
    with pytest.raises(AdapterError, match=r'base_precision = "int8".*engine\.implementation'):
        attach(build("int8"), "peft", decompose=True)


@pytest.mark.parametrize("precision", ROUNDED)
def test_a_changed_weight_or_scale_is_seen(precision):
    unet = build(precision, SINGLE)
    before = take_fingerprint(unet, SINGLE)
    assert before.find_changed(unet) == []
    linear, name = unet.mid_block.attentions[0].proj_in, "mid_block.attentions.0.proj_in"
    linear.weight.data[0, 0] += 1
    if precision == "int8":
        linear.scale[3] *= 1.01
        assert before.find_changed(unet) == [f"{name}.weight", f"{name}.scale"]
    else:
        linear.weight.quant_state.absmax[3] += 1
        assert before.find_changed(unet) == [f"{name}.weight", f"{name}.weight.absmax"]
    convolution = unet.mid_block.resnets[0].conv1
    if precision != "nf4":
        convolution.scale[0] *= 1.01
        assert "mid_block.resnets.0.conv1.scale" in before.find_changed(unet)


@pytest.mark.parametrize("memory", ["keep-all", "recompute-feed-forward", "recompute-all"])
def test_integers_are_near_while_training_and_take_no_part_in_what_is_measured(memory):
    plain = attach(build("int8"), "fused", decompose=True)
    integers = attach(build("int8"), "fused", decompose=True, int8_compute=True, memory=memory)
    for adapter in (plain, integers):
        adapter.unet.eval()
    assert torch.equal(compute(integers)[0], compute(plain)[0])
    for adapter in (plain, integers):
        adapter.unet.train()
        adapter.clear_gradients()
    (wanted, of_wanted), (found, of_found) = compute(plain), compute(integers)
    assert 1e-4 < (found - wanted).norm() / wanted.norm() < 0.05
    for name, gradient in of_wanted.items():
        assert (of_found[name] - gradient).norm() / gradient.norm() < 0.2, name
