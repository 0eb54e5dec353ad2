"""Keys and values of the caption are there while a UNet computes, and no longer."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from rasengan_xl.engine.options import EngineOptions

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
