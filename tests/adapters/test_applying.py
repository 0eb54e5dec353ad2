import pytest
import torch
from torch import nn

from rasengan_xl.adapters.applying import applied
from rasengan_xl.adapters.changes import Decomposed, Dense, LowRank, changed_weight, weight_change
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.errors import AdapterError
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.layers import layer_modules
from rasengan_xl.sdxl.quantization import quantize

from .test_attach import unet_output

CPU = Compute(torch.device("cpu"), torch.float32)
QUERY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
FIRST = "unet.conv_in"


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 4


def contents(tmp_path, **changes):
    return AdapterContents(source=tmp_path, form="diffusers", changes=changes, header={})


def low_rank(seed=0):
    return LowRank(down=draw(2, 64, seed=seed), up=draw(64, 2, seed=seed + 1), alpha=4.0)


def dora(seed=0):
    return Decomposed(direction=low_rank(seed), magnitude=1 + draw(64, seed=seed))


def adapter(tmp_path, kind, seed=0):
    convolution = LowRank(down=draw(2, 4, 3, 3, seed=seed), up=draw(64, 2, 1, 1), alpha=2.0)
    change = {
        "lora": low_rank(seed),
        "dora": dora(seed),
        "dense": Dense(change=draw(64, 64, seed=seed)),
        "per-input dora": Decomposed(
            direction=low_rank(seed), magnitude=1 + draw(64, seed=seed), axis="input"
        ),
    }[kind]
    return contents(tmp_path, **{QUERY: change, FIRST: convolution})


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("kind", ["lora", "dora", "dense", "per-input dora"])
def test_strength_is_a_way_from_exactly_the_base_to_exactly_the_adapter(
    tiny_unet, tmp_path, kind, fuse
):
    one = adapter(tmp_path, kind)
    base = unet_output(tiny_unet)
    with applied({"unet": tiny_unet}, [one], [1.0], fuse=fuse) as adapters:
        whole = unet_output(tiny_unet)
        adapters.set_strengths([0.0])
        assert torch.equal(unet_output(tiny_unet), base)
        adapters.set_strengths([0.5])
        half = unet_output(tiny_unet)
        adapters.set_strengths([1.0])
        assert torch.equal(unet_output(tiny_unet), whole)
    assert torch.equal(unet_output(tiny_unet), base)
    differences = [(whole - base).norm(), (half - base).norm(), (whole - half).norm()]
    assert min(differences) > 0.1 * max(differences)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_fused_weight_is_the_formulas_to_the_last_bit(tiny_unet, tmp_path, kind):
    one = adapter(tmp_path, kind)
    layer = layer_modules({"unet": tiny_unet})[QUERY]
    expected = changed_weight(one.changes[QUERY], layer.weight.detach())
    with applied({"unet": tiny_unet}, [one], [1.0]):
        assert torch.equal(layer.weight, expected)


@pytest.mark.parametrize("strength", [1.0, -0.5, 1.7])
@pytest.mark.parametrize("kind", ["lora", "dora", "dense", "per-input dora"])
def test_a_change_beside_the_layer_equals_one_in_its_weight(tiny_unet, tmp_path, kind, strength):
    one = adapter(tmp_path, kind)
    with applied({"unet": tiny_unet}, [one], [strength]):
        fused = unet_output(tiny_unet)
    with applied({"unet": tiny_unet}, [one], [strength], fuse=False):
        beside = unet_output(tiny_unet)
    torch.testing.assert_close(beside, fused, rtol=1e-4, atol=1e-4)


def test_several_adapters_add_up(tiny_unet, tmp_path):
    both = [adapter(tmp_path, "lora", seed=1), adapter(tmp_path, "dora", seed=5)]
    layer = layer_modules({"unet": tiny_unet})[QUERY]
    base = layer.weight.detach().clone()
    moves = [changed_weight(each.changes[QUERY], base) - base for each in both]
    with applied({"unet": tiny_unet}, both, [0.7, -0.2]):
        torch.testing.assert_close(layer.weight, base + 0.7 * moves[0] - 0.2 * moves[1])
    assert torch.equal(layer.weight, base)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_base_in_4_bits_keeps_its_weights(tiny_unet, tmp_path, kind):
    quantize(tiny_unet, CPU, "nf4")
    base = unet_output(tiny_unet)
    stored = layer_modules({"unet": tiny_unet})[QUERY].weight.detach().clone()
    with applied({"unet": tiny_unet}, [adapter(tmp_path, kind)], [1.0]):
        assert not torch.equal(unet_output(tiny_unet), base)
        assert torch.equal(layer_modules({"unet": tiny_unet})[QUERY].weight, stored)
    assert torch.equal(unet_output(tiny_unet), base)


def test_a_16_bit_weight_is_rounded_once(tiny_unet, tmp_path):
    tiny_unet.to(torch.bfloat16)
    one = adapter(tmp_path, "dora")
    layer = layer_modules({"unet": tiny_unet})[QUERY]
    base = layer.weight.detach().clone()
    with applied({"unet": tiny_unet}, [one], [1.0]):
        expected = changed_weight(one.changes[QUERY], base).to(torch.bfloat16)
        assert torch.equal(layer.weight, expected)
    assert torch.equal(layer.weight, base)


@pytest.mark.parametrize("kind", ["lora", "dense"])
def test_a_change_that_16_bits_would_swallow_is_computed_beside_the_weight(
    tiny_unet, tmp_path, kind
):
    tiny_unet.to(torch.bfloat16)
    one, strength = adapter(tmp_path, kind), 1e-4
    layer = layer_modules({"unet": tiny_unet})[QUERY]
    base, given = layer.weight.detach().clone(), draw(8, 64).to(torch.bfloat16)
    meant = given.float() @ weight_change(one.changes[QUERY], base).T * strength
    plain = layer(given).float()
    with applied({"unet": tiny_unet}, [one], [strength]) as adapters:
        assert torch.equal(layer.weight, base)
        adapters.set_strengths([1.0])
        assert not torch.equal(layer.weight, base)
        adapters.set_strengths([strength])
        layer.float()  # so that the output can show what is added
        moved = layer(given.float()).detach() - given.float() @ base.float().T
        torch.testing.assert_close(moved, meant, rtol=0.02, atol=1e-6)
        layer.to(torch.bfloat16)
    assert torch.equal(layer.weight, base)
    assert torch.equal(layer(given).float(), plain)


def test_an_adapter_for_another_model_is_refused_before_anything_changes(tiny_unet, tmp_path):
    base = unet_output(tiny_unet)
    stray = contents(tmp_path, **{QUERY: low_rank(), "unet.no.such.layer": low_rank()})
    with (
        pytest.raises(AdapterError, match="1 layers that this base model has not.*no.such.layer"),
        applied({"unet": tiny_unet}, [stray], [1.0]),
    ):
        pass
    assert torch.equal(unet_output(tiny_unet), base)


def test_an_error_while_it_is_on_takes_it_off(tiny_unet, tmp_path):
    base = unet_output(tiny_unet)
    with (
        pytest.raises(ZeroDivisionError),
        applied({"unet": tiny_unet}, [adapter(tmp_path, "lora")], [1.0]),
    ):
        raise ZeroDivisionError
    assert torch.equal(unet_output(tiny_unet), base)


def test_parts_that_no_adapter_changes_are_left_alone(tiny_unet, tmp_path):
    text = nn.Module()
    with applied({"unet": tiny_unet, "text_encoder": text}, [adapter(tmp_path, "lora")], [1.0]):
        assert not list(text.parameters())
