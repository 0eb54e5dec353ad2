import json
import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModelWithProjection

from rasengan_xl.errors import ModelError
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.stored_weights import StoredWeights
from rasengan_xl.tensor_file import read_tensors, write_tensors


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "copy")


def test_every_weight_of_a_unet_is_read_as_it_is_stored(tiny_model):
    weights = StoredWeights(find_model(str(tiny_model)))
    kept = read_tensors(tiny_model / "unet" / "diffusion_pytorch_model.safetensors")
    assert set(weights.names("unet")) == {f"unet.{name}" for name in kept}
    for name, tensor in kept.items():
        assert torch.equal(weights.read(f"unet.{name}"), tensor)
        described = weights.describe(f"unet.{name}")
        assert (described.shape, described.dtype) == (tuple(tensor.shape), tensor.dtype)


def test_encoders_have_the_names_of_published_files_whatever_wrote_them(tiny_model):
    weights = StoredWeights(find_model(str(tiny_model)))
    for part in ("text_encoder", "text_encoder_2"):
        names = {name.removeprefix(f"{part}.") for name in weights.names(part)}
        assert "text_model.final_layer_norm.bias" in names
        assert {name for name in names if not name.startswith("text_model.")} <= {
            "text_projection.weight"
        }


def test_a_vae_written_long_ago_has_the_names_of_today(copy):
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    names = StoredWeights(find_model(str(copy))).names("vae")
    renamed = {}
    for name, tensor in read_tensors(file).items():
        for new, was in old.items():
            name = name.replace(f".{new}.", f".{was}.")  # noqa: PLW2901
        renamed[name] = tensor
    assert renamed.keys() != read_tensors(file).keys()
    write_tensors(file, renamed)
    assert sorted(StoredWeights(find_model(str(copy))).names("vae")) == sorted(names)


def test_shards_of_a_half_precision_variant_are_found_as_the_libraries_write_them(tiny_model, copy):
    before = StoredWeights(find_model(str(tiny_model)))
    unet = UNet2DConditionModel.from_pretrained(copy, subfolder="unet", torch_dtype=torch.float16)
    encoder = CLIPTextModelWithProjection.from_pretrained(copy, subfolder="text_encoder_2")
    for part, model in {"unet": unet, "text_encoder_2": encoder.half()}.items():
        for file in (copy / part).glob("*.safetensors"):
            file.unlink()
        model.save_pretrained(copy / part, max_shard_size="200KB", variant="fp16")
        assert len(list((copy / part).glob("*.safetensors"))) > 1
    after = StoredWeights(find_model(str(copy)))
    assert sorted(after.names()) == sorted(before.names())
    assert all(torch.equal(after.read(name), before.read(name)) for name in after.names())


def test_a_weight_that_is_not_there_is_named(tiny_model):
    weights = StoredWeights(find_model(str(tiny_model)))
    with pytest.raises(ModelError, match=r"has no unet\.conv_inn\.weight"):
        weights.read("unet.conv_inn.weight")


def _cut(file):
    file.write_bytes(file.read_bytes()[:-8])


def _replace_by_an_index(file, content):
    file.unlink()
    file.with_name(f"{file.name}.index.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_cut, "cannot be read"),
        (lambda file: file.write_bytes(b"\xff" * 64), "cannot be read"),
        (lambda file: file.rename(file.with_name("other.safetensors")), "has neither"),
        (lambda file: _replace_by_an_index(file, {"weight_map": 3}), "index.json: cannot be read"),
        (
            lambda file: _replace_by_an_index(file, {"weight_map": {"a": "../../b.safetensors"}}),
            "unet/b.safetensors: cannot be read",
        ),
        (
            lambda file: write_tensors(file, {"conv_in.weight": torch.ones(3, dtype=torch.uint8)}),
            "conv_in.weight is of type U8",
        ),
    ],
)
def test_damaged_weights_are_one_line(copy, damage, complaint):
    model = find_model(str(copy))
    damage(copy / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ModelError, match=complaint) as caught:
        StoredWeights(model)
    assert "\n" not in str(caught.value)
