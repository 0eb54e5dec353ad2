import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rasengan_xl.config.comparison_settings import DEFAULT_ENCODERS
from rasengan_xl.errors import ModelError
from rasengan_xl.evaluation.encoder_folder import PINNED, EncoderFolder, choose_encoder_files
from rasengan_xl.evaluation.encoders import clip_scores, find_encoder
from rasengan_xl.evaluation.preprocessing import read_preprocessing
from rasengan_xl.mini.world.portraits import draw_portrait
from rasengan_xl.mini.world.scenes import draw_scene

from .tiny_encoders import OLD_FORM, write_clip, write_dino, write_preprocessor

CPU = torch.device("cpu")
TEXTS = ["a girl with red hair", "a boy"]


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip")


@pytest.fixture
def pictures():
    return [draw_portrait(draw_scene(i), "plain", 40) for i in range(3)]


def stack_pixels(folder, pictures):
    preprocessing = read_preprocessing(EncoderFolder(path=folder))
    return torch.stack([preprocessing.to_pixels(picture) for picture in pictures])


def test_clip_features_are_those_of_the_whole_model(clip, tmp_path, pictures):
    encoder = find_encoder("clip", str(tmp_path / "clip"), None, CPU)
    features, texts = encoder.features(pictures), encoder.texts.features(TEXTS)
    from transformers import CLIPTokenizer

    tokens = CLIPTokenizer.from_pretrained(tmp_path / "clip")(
        TEXTS, padding=True, return_tensors="pt"
    )
    pixels = stack_pixels(tmp_path / "clip", pictures)
    with torch.no_grad():
        whole = clip(**tokens, pixel_values=pixels)
    assert features.shape == (3, 8)
    unit = torch.nn.functional.normalize
    assert torch.allclose(unit(features), whole.image_embeds, atol=1e-6)
    assert torch.allclose(unit(texts), whole.text_embeds, atol=1e-6)


def test_dino_features_are_the_class_token_of_the_model(tmp_path, pictures):
    model = write_dino(tmp_path)
    encoder = find_encoder("dino", str(tmp_path), None, CPU)
    with torch.no_grad():
        tokens = model(stack_pixels(tmp_path, pictures)).last_hidden_state
    assert torch.allclose(encoder.features(pictures), tokens[:, 0], atol=1e-6)
    assert encoder.texts is None


def test_texts_that_are_cut_are_counted(clip, tmp_path):
    texts = find_encoder("clip", str(tmp_path / "clip"), None, CPU).texts
    assert texts.count_cut([*TEXTS, "a boy with a very long tale to tell " * 9]) == 1
    # The end, past the limit of 12 tokens, is not seen.
    same = texts.features(["a " * 30, "a " * 40])
    assert torch.equal(same[0], same[1])


def test_clip_scores_are_a_hundred_cosines_and_never_below_nought():
    pictures, texts = np.array([[2.0, 0], [3, 4], [1, 1]]), np.array([[5.0, 0], [1, 0], [-1, 0]])
    assert clip_scores(pictures, texts) == pytest.approx([100, 60, 0])


def test_an_encoder_is_another_when_a_file_that_matters_changes(clip, tmp_path):
    folder = EncoderFolder(path=tmp_path / "clip")
    before = folder.identity
    (folder.path / "README.md").write_text("of no matter")
    assert folder.identity == before
    write_preprocessor(folder.path, {**OLD_FORM, "resample": 2})
    assert folder.identity != before


def refuse(kind, folder, words):
    with pytest.raises(ModelError, match=words) as caught:
        find_encoder(kind, str(folder), None, CPU)
    assert "\n" not in str(caught.value)


def test_what_is_no_encoder_is_refused_in_one_line(clip, tmp_path):
    refuse("clip", tmp_path / "nowhere", "no such folder")
    refuse("dino", tmp_path / "clip", "is of type 'clip', not 'dinov2'")
    (tmp_path / "empty").mkdir()
    refuse("clip", tmp_path / "empty", "holds no model.safetensors")


def test_an_encoder_that_the_hub_does_not_give_is_refused_in_one_line():
    refuse("clip", "nobody/nothing", "cannot be had from the hub")  # the tests are offline


def test_a_hub_model_that_lies_here_by_its_commit_needs_no_network(clip, tmp_path, monkeypatch):
    asked = []

    def download(name, revision, local_files_only):
        asked.append((name, revision, local_files_only))
        return str(tmp_path / "clip")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    name = DEFAULT_ENCODERS["clip"]
    assert find_encoder("clip", name, None, CPU).texts is not None
    find_encoder("clip", name, "f" * 40, CPU)
    assert asked == [(name, PINNED[name], True), (name, "f" * 40, True)]


def test_damaged_encoders_are_refused_in_one_line(clip, tmp_path):
    folder, weights = tmp_path / "clip", tmp_path / "clip" / "model.safetensors"
    write_preprocessor(folder, {"size": 32, "crop_size": 32})
    refuse("clip", folder, "makes pictures of 32 x 32, the model takes 28 x 28")
    write_preprocessor(folder, OLD_FORM)
    tensors = load_file(weights)
    tensors.pop("visual_projection.weight")
    save_file(tensors, weights, metadata={"format": "pt"})
    refuse("clip", folder, "the weights lack visual_projection.weight")
    weights.write_bytes(weights.read_bytes()[:2000])
    refuse("clip", folder, "cannot be loaded")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"})[:-1])
    refuse("clip", folder, "config.json cannot be read")


def test_neither_pickles_nor_weights_of_other_libraries_are_downloaded():
    names = ["README.md", "config.json", "preprocessor_config.json", "model.safetensors"]
    names += ["pytorch_model.bin", "tf_model.h5", "open_clip_model.safetensors", "onnx/model.onnx"]
    names += ["vocab.json", "merges.txt", "model-00001-of-00002.safetensors"]
    names += ["model.safetensors.index.json"]
    assert set(choose_encoder_files(names)) == {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
        "vocab.json",
        "merges.txt",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
    }
