"""Keys and values of the caption are there while a UNet computes, and no longer."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.sdxl.main_memory import MainMemoryLinear

from ..conftest import build_tiny_unet
from .steps import attach, build_unet, compute, draw_inputs


@pytest.fixture
def watched():
    unet = attach(build_unet(torch.float32)).unet
    block = unet.mid_block.attentions[0].transformer_blocks[0]
    return unet, block._parts.text.shared


def test_they_are_forgotten_after_a_forward_pass(watched):
    unet, shared = watched
    compute(unet, draw_inputs(torch.float32))
    assert shared._found == {}


def test_they_are_forgotten_after_one_that_failed(watched):
    unet, shared = watched
    unet.conv_out.register_forward_hook(fail)
    with pytest.raises(ValueError, match="broken"):
        compute(unet, draw_inputs(torch.float32))
    assert shared._found == {}


def fail(*_):
    raise ValueError("broken")


def test_a_block_that_computes_its_own_finds_the_same():
    inputs = draw_inputs(torch.float64)
    options = EngineOptions(batch_text_projections=False)
    outputs = [compute(attach(build_unet(), each).unet, inputs) for each in (None, options)]
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)


OF_KEYS = {
    "all": {},
    "no text": {"targets": ("to_q",)},
    "some": {"targets": ("to_q", "attn2.to_v")},
}


@pytest.mark.parametrize("shape", OF_KEYS.values(), ids=OF_KEYS)
@pytest.mark.parametrize("precision", ["full", "nf4", "int8"])
def test_with_the_base_given_no_weight_is_needed_and_outputs_and_gradients_are_the_same(
    precision, shape
):
    plain = attach(build_unet(torch.float32, precision), **shape)
    inputs = draw_inputs(torch.float32)
    kept = keep(plain, inputs[2])
    expected, gradients = learn(plain, inputs, {})

    held = build_unet(torch.float32, precision, held_back=True)
    adapter = attach(held, base_precision=precision, **shape)
    spoil(adapter.unet)
    found, others = learn(adapter, inputs, {"key_values": kept})
    assert torch.equal(found, expected)
    assert all(torch.equal(others[name], gradients[name]) for name in gradients)


def test_what_is_given_stays_as_it_is():
    adapter = attach(build_unet(torch.float32))
    inputs = draw_inputs(torch.float32)
    kept = keep(adapter, inputs[2])
    before = kept.clone()
    learn(adapter, inputs, {"key_values": kept})
    assert torch.equal(kept, before)


def test_without_it_what_is_held_back_is_computed_with():
    inputs = draw_inputs(torch.float32)
    outputs = [
        compute(attach(build_unet(torch.float32, held_back=held)).unet, inputs)
        for held in (False, True)
    ]
    torch.testing.assert_close(*outputs)


def test_without_the_adapter_it_is_the_base():
    adapter, inputs = attach(build_unet(torch.float32)), draw_inputs(torch.float32)
    kept = keep(adapter, inputs[2])
    with adapter.disabled():
        outputs = [learn(adapter, inputs, {**extra})[0] for extra in ({}, {"key_values": kept})]
    torch.testing.assert_close(*outputs)


def keep(adapter, text):
    """Return the base's products of a caption, in the order of their columns."""
    unet = adapter.unet
    block = unet.mid_block.attentions[0].transformer_blocks[0]
    work = block._parts.text.shared._work
    total = sum(len(s) for _, _, stretches in work for s in stretches)
    kept = torch.empty(*text.shape[:2], total)
    for projection, _, stretches in work:
        ((group, _),) = projection.groups
        products = group.frozen.product(text.flatten(0, 1), training=False).view(
            *text.shape[:2], -1
        )
        for stretch, product in zip(
            stretches, products.split([*map(len, stretches)], -1), strict=True
        ):
            kept[..., stretch.start : stretch.stop] = product
    return kept


def learn(adapter, inputs, extra):
    """Return what a UNet predicts, and the adapter's gradients."""
    latents, times, text, pooled, sizes = inputs
    condition = {"text_embeds": pooled, "time_ids": sizes}
    adapter.clear_gradients()
    predicted = adapter.unet(latents, times, text, added_cond_kwargs=condition, **extra).sample
    if predicted.requires_grad:
        predicted.square().sum().backward()
        adapter.collect()
    return predicted.detach(), {name: g.clone() for name, g in adapter.gradients().items()}


def spoil(unet):
    """Make the weights that nobody should need something other than numbers."""
    for layer in unet.modules():
        if isinstance(layer, MainMemoryLinear):
            layer.weight = None


@pytest.mark.parametrize("precision", ["full", "int8"])
def test_what_is_held_back_lies_elsewhere_than_all_else(precision):
    """The meta device stands for a GPU: it computes with nothing that lies in main memory."""
    unet = build_unet(torch.bfloat16, precision, held_back=True).to("meta")
    adapter = attach(unet, base_precision=precision)
    held = [layer for layer in unet.modules() if isinstance(layer, MainMemoryLinear)]
    assert {layer.weight.device.type for layer in held} == {"cpu"}
    assert adapter.rebuilt.adapter.weights.is_meta
    inputs = tuple(tensor.to("meta") for tensor in draw_inputs(torch.bfloat16))
    kept = torch.empty(4, 77, 512, dtype=torch.bfloat16, device="meta")
    for extra in ({}, {"key_values": kept}):
        assert learn(adapter, inputs, extra)[0].is_meta


def test_where_a_unet_changes_the_caption_first_keys_are_of_what_it_makes_of_it():
    shape = {n: v for n, v in build_tiny_unet().config.items() if not n.startswith("_")}
    shape |= {"encoder_hid_dim": 128, "encoder_hid_dim_type": "text_proj"}
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**shape).double()
    inputs = draw_inputs(torch.float64)
    with torch.no_grad():
        before = compute(unet, inputs)
        found = compute(attach(unet, is_fresh=True).unet, inputs)
    torch.testing.assert_close(found, before, rtol=1e-12, atol=1e-12)
