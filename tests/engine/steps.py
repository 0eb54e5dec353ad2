"""One training step on a tiny UNet, by either implementation."""

from contextlib import nullcontext

import torch

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.caption_columns import caption_columns
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.weights import read_weight
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.quantization import quantize

from ..conftest import build_tiny_unet

CPU = torch.device("cpu")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
ALL = (*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "time_emb_proj", "linear_1")


def build_unet(dtype=torch.float64, precision="full", *, held_back=False):
    torch.manual_seed(0)
    unet = build_tiny_unet().to(dtype)
    columns = caption_columns(unet) if held_back else ()
    quantize(unet, Compute(CPU, dtype), precision, columns)
    return unet


def read_into_plain(unet):
    """Return a UNet whose weights are those that a quantized one computes with."""
    plain, stored = build_unet(torch.float32), dict(unet.named_modules())
    for name, layer in plain.named_modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            layer.weight.data = read_weight(stored[name]).clone()
    return plain


def attach(unet, options=None, *, is_fresh=False, **shape):
    """Put an adapter on a UNet whose random weights depend on their names alone."""
    settings = AdapterSettings(**{"rank": 4, "alpha": 6, "targets": ATTENTION, **shape})
    adapter = attach_adapter(unet, settings, 3, options or EngineOptions())
    if unet.dtype == torch.float64 and adapter.options.implementation == "peft":
        _make_precise(adapter)
    if not is_fresh:
        change(adapter)
    return adapter


@torch.no_grad()
def change(adapter):
    generator = torch.Generator().manual_seed(5)
    for name in sorted(adapter.parameters):
        weights = adapter.parameters[name]
        weights.add_(torch.randn(weights.shape, generator=generator).to(weights), alpha=0.05)
    adapter.settle()


def draw_inputs(dtype, pictures=4):
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(pictures, *shape, generator=generator).to(dtype)

    times = torch.tensor([3, 900] * (pictures // 2))
    sizes = torch.tensor([[32, 32, 0, 0, 32, 32]] * pictures)
    return draw(4, 8, 8), times, draw(77, 128), draw(64), sizes


def compute(unet, inputs):
    latents, times, text, pooled, sizes = inputs
    condition = {"text_embeds": pooled, "time_ids": sizes}
    return unet(latents, times, text, added_cond_kwargs=condition).sample


def backward(adapter, parts=1, pictures=4):
    """Return the gradients of a mean loss over some pictures, a part of them at a time."""
    unet = adapter.unet.train()
    inputs = draw_inputs(unet.dtype, pictures)
    adapter.clear_gradients()
    for part in zip(*(whole.chunk(parts) for whole in inputs), strict=True):
        with _computing(adapter):
            predicted = compute(unet, part)
        loss = predicted.to(torch.promote_types(predicted.dtype, torch.float32)).square().sum()
        (loss / pictures).backward()
        adapter.collect()
    return {name: gradient.clone() for name, gradient in adapter.gradients().items()}


def largest_error(found, expected):
    """Return the largest of all layers' errors over the sizes of what was expected."""
    assert found.keys() == expected.keys()
    assert all(expected[name].norm() > 0 for name in expected)
    return max(
        float((found[name] - expected[name]).norm() / expected[name].norm()) for name in expected
    )


def _computing(adapter):
    dtype = adapter.unet.dtype
    is_exact = dtype == torch.float64  # which autocast does not know
    return nullcontext() if is_exact else adapter.computing(Compute(CPU, dtype))


def _make_precise(adapter):
    """Turn PEFT's weights, and magnitudes that begin as norms, into float64."""
    for name, weights in adapter.parameters.items():
        layer, found, _ = name.partition(".lora_magnitude_vector.")
        weights.data = weights.data.double()
        if found:
            weights.data = torch.linalg.norm(adapter.layers[layer].base.weight, dim=1)
