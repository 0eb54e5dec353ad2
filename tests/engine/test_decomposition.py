"""DoRA's norms are those of the changed weights, which are never made."""

import pytest
import torch
from torch import nn

from rasengan_xl.engine.decomposition import Decomposition
from rasengan_xl.engine.flat_adapter import FlatAdapter
from rasengan_xl.engine.flat_layout import AdaptedLayer
from rasengan_xl.engine.projections import Projections
from rasengan_xl.engine.weights import read_weight

from .steps import attach, build_unet

SCALE = 1.7


def build(dtype=torch.float64):
    torch.manual_seed(0)
    layers = {
        name: nn.Linear(12, outputs, bias=name == "out", dtype=dtype).requires_grad_(False)
        for name, outputs in (("q", 8), ("k", 8), ("out", 6))
    }
    groups = [["q", "k"], ["out"]]
    described = [
        [
            AdaptedLayer(name=n, inputs=12, outputs=layers[n].out_features, rank=3, scale=SCALE)
            for n in names
        ]
        for names in groups
    ]
    adapter = FlatAdapter(
        described, decompose=True, dropout=0.0, dtype=dtype, device=torch.device("cpu")
    )
    projections = [Projections([layers[n] for n in names], adapter, names) for names in groups]
    return layers, adapter, Decomposition(adapter, projections)


def test_a_fresh_gain_is_one_to_the_bit_whatever_matrix_a_is():
    _, adapter, decomposition = build(torch.bfloat16)
    for name, weights in adapter.named_weights().items():
        if "lora_A" in name:
            nn.init.normal_(weights)
    adapter.cast()
    decomposition.refresh()
    assert torch.equal(adapter.gain, torch.ones_like(adapter.gain))
    assert not adapter.shift.any()


def test_norms_and_gains_are_those_of_the_changed_weights():
    layers, adapter, decomposition = build()
    named = adapter.named_weights()
    for weights in named.values():
        weights.add_(torch.randn_like(weights))
    adapter.cast()
    decomposition.refresh()
    for name, layer in layers.items():
        group = adapter.group([name])
        down, up = (named[f"{name}.lora_{factor}.default.weight"] for factor in "AB")
        magnitude = named[f"{name}.lora_magnitude_vector.default.weight"]
        norm = torch.linalg.norm(layer.weight + SCALE * up @ down, dim=1)
        torch.testing.assert_close(group.norm, norm, rtol=1e-12, atol=0)
        torch.testing.assert_close(group.gain, magnitude / norm, rtol=1e-12, atol=0)


@pytest.mark.parametrize("precision", ["full", "nf4"])
def test_magnitudes_begin_as_norms_of_what_the_base_computes_with(precision):
    unet = build_unet(torch.float32, precision)
    adapter = attach(unet, is_fresh=True, decompose=True, base_precision=precision)
    for name, layer in adapter.layers.items():
        norm = torch.linalg.norm(read_weight(layer.base), dim=1)
        found = adapter.parameters[f"{name}.lora_magnitude_vector.default.weight"]
        torch.testing.assert_close(found, norm)
