"""A group of layers has the values and gradients that autograd finds for the formula."""

import pytest
import torch
from torch import nn

from rasengan_xl.engine.decomposition import Decomposition
from rasengan_xl.engine.flat_adapter import FlatAdapter
from rasengan_xl.engine.flat_layout import AdaptedLayer
from rasengan_xl.engine.projections import Projections

SCALE, INPUTS, OUTPUTS, RANK, ROWS = 1.7, 12, 8, 3, 10
F64 = torch.float64


class Group:
    """Some layers with a random adapter, and tensors of autograd's with the same values."""

    def __init__(self, count, *, decompose, bias, dropout=0.0):
        torch.manual_seed(0)
        names = [f"layer{i}" for i in range(count)]
        self.layers = [nn.Linear(INPUTS, OUTPUTS, bias=bias, dtype=F64) for _ in names]
        for layer in self.layers:
            layer.requires_grad_(False)
        shape = {"inputs": INPUTS, "outputs": OUTPUTS, "rank": RANK, "scale": SCALE}
        self.adapter = FlatAdapter(
            [[AdaptedLayer(name=name, **shape) for name in names]],
            decompose=decompose,
            dropout=dropout,
            dtype=F64,
            device=torch.device("cpu"),
        )
        self.projections = Projections(self.layers, self.adapter, names)
        decomposition = Decomposition(self.adapter, [self.projections]) if decompose else None
        for weights in self.adapter.named_weights().values():
            weights.add_(torch.randn_like(weights), alpha=0.3)
        if decomposition:
            decomposition.refresh()
        self.named = {
            name: weights.clone().requires_grad_()
            for name, weights in self.adapter.named_weights().items()
        }

    def expected(self, given, mask=None):
        """Compute y = g (x W^T + s drop(x) A^T B^T) + b, the norm in g being a constant."""
        outputs = []
        for i, layer in enumerate(self.layers):
            down, up = (self.named[f"layer{i}.lora_{f}.default.weight"] for f in "AB")
            seen = given if mask is None else given * mask
            product = given @ layer.weight.T + SCALE * (seen @ down.T) @ up.T
            if self.adapter.decompose:
                norm = torch.linalg.norm(layer.weight + SCALE * up @ down, dim=1).detach()
                product = product * self.named[f"layer{i}.lora_magnitude_vector.default.weight"]
                product = product / norm
            outputs.append(product if layer.bias is None else product + layer.bias)
        return torch.cat(outputs, dim=1)


def draw(*shape):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("decompose", [False, True])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_values_and_gradients_are_those_of_the_formula(count, decompose, bias, dropout):
    group = Group(count, decompose=decompose, bias=bias, dropout=dropout)
    given = draw(ROWS, INPUTS).requires_grad_()
    upstream = draw(ROWS, count * OUTPUTS)
    with torch.no_grad():
        product, kept = group.projections.project(given, training=True)
    mask = None if kept.mask is None else kept.mask / (1 - dropout)
    assert (mask is None) == (dropout == 0)
    expected = group.expected(given, mask)
    torch.testing.assert_close(product, expected, rtol=1e-12, atol=1e-12)
    expected.backward(upstream)
    with torch.no_grad():
        wanted = group.projections.back(upstream.clone(), given, kept, needs_input=True)
    torch.testing.assert_close(wanted, given.grad, rtol=1e-12, atol=1e-12)
    for name, gradient in group.adapter.named_gradients().items():
        torch.testing.assert_close(gradient, group.named[name].grad, rtol=1e-12, atol=1e-12)


def test_gradients_are_added_to_what_is_there_already():
    group = Group(2, decompose=True, bias=True)
    given, upstream = draw(ROWS, INPUTS), draw(ROWS, 2 * OUTPUTS)
    sums = []
    for _ in range(2):
        _, kept = group.projections.project(given)
        assert group.projections.back(upstream.clone(), given, kept, needs_input=False) is None
        sums.append(group.adapter.gradients.clone())
    torch.testing.assert_close(sums[1], 2 * sums[0])


def test_layers_keep_their_weights_as_views_of_one():
    layers = [nn.Linear(INPUTS, OUTPUTS, bias=False).requires_grad_(False) for _ in range(3)]
    before = [layer.weight.clone() for layer in layers]
    Projections(layers, None, ["a", "b", "c"])
    assert all(torch.equal(ly.weight, old) for ly, old in zip(layers, before, strict=True))
    assert len({layer.weight.untyped_storage().data_ptr() for layer in layers}) == 1
