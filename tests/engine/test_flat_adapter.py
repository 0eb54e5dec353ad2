"""Weights of all layers lie in one piece, each number once, and are found by PEFT's names."""

import pytest
import torch

from rasengan_xl.engine.flat_adapter import FlatAdapter
from rasengan_xl.engine.flat_layout import AdaptedLayer


def layer(name, inputs=6, outputs=4, rank=2, scale=1.5):
    return AdaptedLayer(name=name, inputs=inputs, outputs=outputs, rank=rank, scale=scale)


def build(dtype=torch.float32, *, decompose=True):
    groups = [[layer("q"), layer("k")], [layer("wide", outputs=8)], [layer("o"), layer("v")]]
    device = torch.device("cpu")
    return FlatAdapter(groups, decompose=decompose, dropout=0.0, dtype=dtype, device=device)


@pytest.mark.parametrize("decompose", [False, True])
def test_every_number_belongs_to_one_layer(decompose):
    adapter = build(decompose=decompose)
    for weights in adapter.named_weights().values():
        weights.add_(1)
    assert torch.equal(adapter.weights, torch.ones_like(adapter.weights))
    layers = [layer for stack in adapter.stacks for layer in stack.layers]
    each = sum(ly.rank * (ly.inputs + ly.outputs) + decompose * ly.outputs for ly in layers)
    assert adapter.weights.numel() == each
    assert len(adapter.named_weights()) == len(layers) * (3 if decompose else 2)


def test_what_is_trained_is_the_same_memory_and_its_gradients_too():
    adapter = build()
    for parameter in adapter.trained.values():
        parameter.data.fill_(3)
        parameter.grad.fill_(4)
    assert all((weights == 3).all() for weights in adapter.named_weights().values())
    assert all((gradient == 4).all() for gradient in adapter.named_gradients().values())
    adapter.clear_gradients()
    assert not any(gradient.any() for gradient in adapter.named_gradients().values())


def test_a_group_is_one_matrix_of_layers_in_their_order():
    adapter = build()
    for number, name in enumerate(["k", "o"]):
        adapter.named_weights()[f"{name}.lora_A.default.weight"].fill_(number + 1)
    low_rank = adapter.group(["q", "k", "o"])
    assert low_rank.stacked_down.shape == (3 * 2, 6)
    assert low_rank.down.mean(dim=(1, 2)).tolist() == [0, 1, 2]
    with pytest.raises(AssertionError):
        adapter.group(["q", "wide"])
    with pytest.raises(AssertionError):
        adapter.group(["q", "o"])


def test_gradients_of_16_bits_are_added_to_those_in_float32_once():
    adapter = build(torch.bfloat16)
    group = adapter.group(["q", "k"])
    group.gradients()[0].fill_(1 / 512)
    adapter.collect()
    assert not group.gradients()[0].any()
    group.gradients()[0].fill_(1)
    adapter.collect()
    adapter.collect()
    found = adapter.named_gradients()["k.lora_A.default.weight"]
    assert found.dtype == torch.float32
    assert (found == 1 + 1 / 512).all()  # in bfloat16 it would be 1


@pytest.mark.parametrize("end", [FlatAdapter.abandon, FlatAdapter.clear_gradients])
def test_what_a_backward_pass_that_broke_off_has_left_is_no_gradient(end):
    adapter = build(torch.bfloat16)
    adapter.group(["q", "k"]).gradients()[0].fill_(1)
    end(adapter)
    adapter.collect()
    assert not any(gradient.any() for gradient in adapter.named_gradients().values())


def test_the_shadow_is_what_weights_are_in_16_bits_once_it_is_cast():
    adapter = build(torch.bfloat16)
    weights = adapter.named_weights()["wide.lora_B.default.weight"]
    weights.fill_(1 / 3)
    shadow = adapter.group(["wide"]).up[0]
    assert not shadow.any()
    adapter.cast()
    assert torch.equal(shadow, weights.bfloat16())


def test_values_that_lie_as_the_weights_do_are_cut_up_as_they_are_and_others_left_alone():
    adapter = build()
    copies = {name: parameter.detach().clone() for name, parameter in adapter.trained.items()}
    found = adapter.by_layer({**copies, "updates": torch.tensor(3)})
    assert found.pop("updates") == 3
    assert found.keys() == adapter.named_weights().keys()
    found["v.lora_B.default.weight"].fill_(7)
    assert (copies["lora_B"] == 7).sum() == 4 * 2
