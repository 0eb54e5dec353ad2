import json
import shutil

import pytest

from rasengan_xl.config.settings import ComputeSettings
from rasengan_xl.errors import ModelError
from rasengan_xl.sdxl.components import load_text_encoders, load_unet
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import choose_files, find_model


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "copy")


def test_a_whole_folder_is_found(tiny_model):
    assert find_model(str(tiny_model)).path == tiny_model


def test_a_missing_folder_is_refused():
    with pytest.raises(ModelError, match="no such folder"):
        find_model("./nowhere")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder_2", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(copy, part):
    shutil.rmtree(copy / part)
    with pytest.raises(ModelError, match=part):
        find_model(str(copy))


def test_missing_weights_are_named(copy):
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="unet/ holds no .safetensors"):
        find_model(str(copy))


def test_a_model_of_another_kind_is_refused(copy):
    (copy / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(ModelError, match="not an SDXL"):
        find_model(str(copy))


def test_damaged_weights_are_one_line_that_names_the_part(copy):
    (copy / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"junk" * 10)
    model = find_model(str(copy))
    with pytest.raises(ModelError, match="unet cannot be loaded") as caught:
        load_unet(model, choose_compute(ComputeSettings(device="cpu")), "full")
    assert "\n" not in str(caught.value)


def test_damaged_text_encoder_weights_are_one_line(copy):
    (copy / "text_encoder" / "model.safetensors").write_bytes(b"junk" * 10)
    model = find_model(str(copy))
    with pytest.raises(ModelError, match="text_encoder cannot be loaded"):
        load_text_encoders(model, choose_compute(ComputeSettings(device="cpu")))


def test_the_identity_changes_with_a_parts_content(copy):
    before = find_model(str(copy)).identity(("vae",))
    config = copy / "vae" / "config.json"
    config.write_text(config.read_text().replace("1.0", "0.5").replace("0.18215", "0.2"))
    assert find_model(str(copy)).identity(("vae",)) != before
    assert find_model(str(copy)).identity(("unet",)) == find_model(str(copy)).identity(("unet",))


def test_only_needed_files_of_a_hub_model_are_downloaded():
    names = [
        "model_index.json",
        "sd_xl_base_1.0.safetensors",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer_2/vocab.json",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/model.safetensors",
        "text_encoder/openvino_model.bin",
        "text_encoder_2/model.fp16.safetensors",
        "text_encoder_2/model.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    chosen = choose_files(names)
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in chosen
    assert "unet/diffusion_pytorch_model.safetensors" not in chosen
    assert "vae/diffusion_pytorch_model.safetensors" in chosen
    assert "sd_xl_base_1.0.safetensors" not in chosen
    assert not [name for name in chosen if "openvino" in name]


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    with pytest.raises(ModelError, match="cannot be had from the hub .no route.") as caught:
        find_model("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_hub_model_is_downloaded_at_its_resolved_commit(monkeypatch, tiny_model):
    asked = {}

    def snapshot(name, *, revision, allow_patterns):
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(tiny_model)

    sibling = type("Sibling", (), {"rfilename": "unet/config.json"})
    facts = type("Facts", (), {"sha": "c0ffee", "siblings": [sibling]})
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: facts)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    model = find_model("owner/name", "main")
    assert model.revision == "c0ffee"
    assert asked["revision"] == "c0ffee"
    assert "unet/config.json" in asked["patterns"]


def test_a_commit_that_lies_here_whole_is_used_without_the_network(monkeypatch, copy):
    commit = "0123456789" * 4

    def snapshot(name, *, revision, local_files_only=False, **_):
        assert local_files_only, "the network was asked"
        assert revision == commit
        return str(copy)

    def refuse(*_, **__):
        raise ConnectionError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    assert find_model("owner/name", commit).revision == commit
    shutil.rmtree(copy / "vae")  # a download that was broken off
    with pytest.raises(ModelError, match="cannot be had from the hub"):
        find_model("owner/name", commit)


def test_the_identity_changes_wherever_a_weight_file_does(copy):
    before = find_model(str(copy)).identity(("vae",))
    (file,) = (copy / "vae").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert find_model(str(copy)).identity(("vae",)) != before
