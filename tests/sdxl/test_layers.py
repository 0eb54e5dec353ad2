import torch

from rasengan_xl.sdxl.components import load_text_encoders, load_unet
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.layers import layer_modules, list_layers, list_sdxl_layers
from rasengan_xl.sdxl.model_folder import find_model


def test_the_layers_of_a_folder_are_those_of_the_loaded_model(tiny_model):
    model, compute = find_model(str(tiny_model)), Compute(torch.device("cpu"), torch.float32)
    first, second = load_text_encoders(model, compute)
    parts = {"unet": load_unet(model, compute, "full")}
    loaded = layer_modules({**parts, "text_encoder": first, "text_encoder_2": second})
    listed = list_layers(model)
    assert listed.shapes == {name: module.weight.shape for name, module in loaded.items()}
    unet = {name for name in loaded if name.startswith("unet.")}
    assert listed.sgm_names.keys() == unet


def test_text_encoders_are_named_as_every_published_file_does(tiny_model):
    named = list_layers(find_model(str(tiny_model))).shapes
    for part in ("text_encoder", "text_encoder_2"):
        assert f"{part}.text_model.encoder.layers.0.self_attn.q_proj" in named
    assert "text_encoder_2.text_projection" in named


def test_sdxl_has_722_linear_layers_in_its_transformers():
    layers = list_sdxl_layers()
    inside = [
        name
        for name, shape in layers.shapes.items()
        if name.startswith("unet.") and ".attentions." in name and len(shape) == 2
    ]
    # As many as kohya-ss/sd-scripts finds: 70 blocks of 10, and the ends of 11 transformers.
    assert len(inside) == 70 * 10 + 11 * 2 == 722
    attention = [name for name in inside if ".attn1." in name or ".attn2." in name]
    assert len(attention) == 560
    query = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    assert layers.shapes[query] == (640, 2048)
