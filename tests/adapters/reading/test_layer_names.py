import pytest
import torch

from rasengan_xl.adapters.reading.layer_names import LayerNames
from rasengan_xl.sdxl.layers import ModelLayers, list_sdxl_layers


@pytest.fixture(scope="module")
def sdxl():
    return list_sdxl_layers()


@pytest.fixture(scope="module")
def names(sdxl):
    return LayerNames(sdxl)


FLAT = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
DOTTED = {"unet": "diffusion_model.", "text_encoder": "clip_l.", "text_encoder_2": "clip_g."}


def test_every_layer_of_sdxl_is_found_by_the_flat_and_the_dotted_names_of_both_worlds(sdxl, names):
    assert len(sdxl.shapes) == 1059
    for layer in sdxl.shapes:
        part, _, inside = layer.partition(".")
        for name in filter(None, (inside, sdxl.sgm_names.get(layer))):
            assert names.find(FLAT[part] + name.replace(".", "_")).layers == (layer,)
            assert names.find(DOTTED[part] + name).layers == (layer,)
        assert names.find(layer).layers == (layer,)


def test_every_layer_of_the_unet_has_a_name_of_stabilitys(sdxl):
    unet = [layer for layer in sdxl.shapes if layer.startswith("unet.")]
    assert len(unet) == 794
    assert sdxl.sgm_names.keys() == set(unet)


@pytest.mark.parametrize(
    ("name", "layer"),
    [  # as they stand in published files
        (
            "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_out_0",
            "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_out.0",
        ),
        (
            "lora_unet_middle_block_1_transformer_blocks_9_ff_net_0_proj",
            "unet.mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj",
        ),
        (
            "lora_unet_output_blocks_5_1_transformer_blocks_0_ff_net_2",
            "unet.up_blocks.1.attentions.2.transformer_blocks.0.ff.net.2",
        ),
        ("lora_unet_output_blocks_2_2_conv", "unet.up_blocks.0.upsamplers.0.conv"),
        ("lora_unet_input_blocks_6_0_op", "unet.down_blocks.1.downsamplers.0.conv"),
        ("lora_unet_output_blocks_8_0_skip_connection", "unet.up_blocks.2.resnets.2.conv_shortcut"),
        ("lora_unet_label_emb_0_2", "unet.add_embedding.linear_2"),
        ("lora_unet_time_embed_0", "unet.time_embedding.linear_1"),
        ("lycoris_down_blocks_2_attentions_1_proj_in", "unet.down_blocks.2.attentions.1.proj_in"),
        (
            "lora_te1_text_model_encoder_layers_11_mlp_fc1",
            "text_encoder.text_model.encoder.layers.11.mlp.fc1",
        ),
        (
            "lora_te2_text_model_encoder_layers_31_self_attn_out_proj",
            "text_encoder_2.text_model.encoder.layers.31.self_attn.out_proj",
        ),
        ("lora_te2_text_projection", "text_encoder_2.text_projection"),
        (  # as transformers 5 names its modules
            "text_encoder.encoder.layers.0.mlp.fc2",
            "text_encoder.text_model.encoder.layers.0.mlp.fc2",
        ),
    ],
)
def test_names_of_published_files_lead_to_their_layers(names, name, layer):
    assert names.find(name).layers == (layer,)


@pytest.mark.parametrize("name", ["lora_unet_input_blocks_9", "lora_unet_", "", "lora_te2_proj_in"])
def test_what_no_layer_is_called_leads_nowhere(names, name):
    assert names.find(name).layers == ()


def test_a_name_that_two_layers_share_leads_to_both():
    shapes = dict.fromkeys(("unet.a_b.c", "unet.a.b_c"), torch.Size((2, 2)))
    names = LayerNames(ModelLayers(shapes=shapes, sgm_names={}))
    assert names.find("lora_unet_a_b_c").layers == ("unet.a.b_c", "unet.a_b.c")
