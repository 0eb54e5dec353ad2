"""The names of Stability's code are held against diffusers' own converter."""

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

from rasengan_xl.mini.architecture import build_unet
from rasengan_xl.sdxl.full_size import build_full_size_unet
from rasengan_xl.sdxl.sgm_names import sgm_layer_names


@pytest.mark.parametrize("build", [build_full_size_unet, build_unet])
def test_every_weight_comes_back_through_the_converter_of_diffusers(build):
    with torch.device("meta"):
        unet = build()
    theirs = {
        f"model.diffusion_model.{name}.{parameter}": weight
        for layer, name in sgm_layer_names(unet).items()
        for parameter, weight in unet.get_submodule(layer).named_parameters(recurse=False)
    }
    back = convert_ldm_unet_checkpoint(theirs, {**unet.config})
    own = dict(unet.named_parameters())
    assert back.keys() == own.keys()
    assert all(back[name] is own[name] for name in own)


def test_the_first_attention_of_sdxl_is_where_every_kohya_file_has_it():
    with torch.device("meta"):
        names = sgm_layer_names(build_full_size_unet())
    assert (
        names["down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"]
        == "input_blocks.4.1.transformer_blocks.0.attn1.to_q"
    )
