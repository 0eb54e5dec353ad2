from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.files import save_adapter
from rasengan_xl.adapters.start_file import read_start, settle_start
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.errors import AdapterError, RecipeError
from rasengan_xl.sdxl.model_folder import find_model

from ..conftest import build_tiny_unet

TEXT = "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"


@pytest.fixture(scope="module")
def their_file(tmp_path_factory) -> Path:
    """Rank 3 and alpha 5 on two kinds of layers."""
    file = tmp_path_factory.mktemp("their") / "their.safetensors"
    shape = AdapterSettings(rank=3, alpha=5, targets=("to_q", "to_k"))
    save_adapter(attach_adapter(build_tiny_unet(), shape, seed=1), file)
    return file


def test_the_file_decides_the_shape_where_the_recipe_says_another(settings, their_file):
    recipe = settings(adapter={"rank": 2, "start_from": str(their_file), "dropout": 0.5})
    settled = settle_start(recipe)
    adapter = settled.adapter
    assert (adapter.rank, adapter.alpha, set(adapter.targets)) == (3, 5, {"to_q", "to_k"})
    assert adapter.dropout == 0.5
    assert len(adapter.start_digest) == 64
    assert settle_start(settled) is settled
    assert settle_start(settings()).adapter.start_digest is None


def test_what_the_user_asks_for_himself_must_not_contradict_the_file(settings, their_file):
    recipe = settings(adapter={"rank": 2, "start_from": str(their_file)})
    with pytest.raises(RecipeError, match=r"--set adapter.rank: is 2, but .* has 3") as caught:
        settle_start(recipe, {"adapter.rank"})
    assert "\n" not in str(caught.value)
    agreeing = settings(adapter={"rank": 3, "start_from": str(their_file)})
    settle_start(agreeing, {"adapter.rank", "adapter.dropout"})


def test_a_file_that_has_changed_since_is_refused(settings, their_file, tmp_path):
    copied = tmp_path / "their.safetensors"
    copied.write_bytes(their_file.read_bytes())
    settled = settle_start(settings(adapter={"start_from": str(copied)}))
    model = find_model(settled.base_model)
    read_start(settled, model)
    other = attach_adapter(build_tiny_unet(), AdapterSettings(rank=3, alpha=5), seed=2)
    save_adapter(other, copied)
    with pytest.raises(AdapterError, match="is not what it was when this run was planned"):
        read_start(settled, model)


def test_changes_to_text_encoders_are_refused_or_left_out_and_told(settings, tmp_path):
    file = tmp_path / "kohya.safetensors"
    layer = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    model = find_model(settings().base_model)
    tensors = {}
    for name, width in ((layer, 64), (TEXT, 64)):
        tensors[f"{name}.lora_down.weight"] = torch.randn(2, width)
        tensors[f"{name}.lora_up.weight"] = torch.randn(width, 2)
        tensors[f"{name}.alpha"] = torch.tensor(1.0)
    save_file(tensors, file)
    with pytest.raises(AdapterError, match=r"changes 1 layer of the text.*start_text=leave-out"):
        settle_start(settings(adapter={"start_from": str(file)}))
    settled = settle_start(settings(adapter={"start_from": str(file), "start_text": "leave-out"}))
    contents, _ = read_start(settled, model)
    assert list(contents.changes) == [
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    ]
    assert "1 layer of the text encoders are left out" in contents.notes[-1]
    only_text = tmp_path / "text.safetensors"
    save_file({k: v for k, v in tensors.items() if k.startswith(TEXT)}, only_text)
    with pytest.raises(AdapterError, match="does not change the UNet"):
        settle_start(settings(adapter={"start_from": str(only_text)}))


@pytest.mark.parametrize("place", ["nowhere", "their.txt"])
def test_what_is_no_adapter_is_one_line(settings, tmp_path, place):
    (tmp_path / "their.txt").write_text("no adapter")
    with pytest.raises(AdapterError) as caught:
        settle_start(settings(adapter={"start_from": str(tmp_path / place)}))
    assert "\n" not in str(caught.value)
