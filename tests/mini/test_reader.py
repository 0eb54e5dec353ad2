import dataclasses
import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from rasengan_xl.mini import MODEL_FOLDER
from rasengan_xl.mini.pretrain.reader import redraw
from rasengan_xl.mini.reader import QUESTIONS, load_reader
from rasengan_xl.mini.reader.loading import ACCURACY_NAME, READER_FOLDER, lowest_accuracy
from rasengan_xl.mini.world.caption_reading import read_caption
from rasengan_xl.mini.world.captions import write_caption
from rasengan_xl.mini.world.hands import HANDS
from rasengan_xl.mini.world.portraits import draw_portrait
from rasengan_xl.mini.world.scenes import ATTRIBUTES, draw_scene

FRESH_SEED = 2_500_000
"""Neither training nor the measurement in accuracy.json comes this far."""
LEAST_ACCURACY = 0.97


@pytest.fixture(scope="module")
def reader():
    return load_reader()


def draw(count, style):
    return [draw_portrait(draw_scene(FRESH_SEED + i), style) for i in range(count)]


def redraw_by_vae(portraits):
    vae = AutoencoderKL.from_pretrained(MODEL_FOLDER / "vae")
    stacked = np.stack([np.asarray(portrait).transpose(2, 0, 1) for portrait in portraits])
    rows = redraw(vae, torch.from_numpy(stacked)).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(row) for row in rows]


@pytest.mark.parametrize("path", ["drawn", "redrawn"])
@pytest.mark.parametrize("style", ["plain", "shinobi"])
def test_it_reads_every_attribute_off_portraits_it_has_never_seen(reader, style, path):
    count = 150 if path == "drawn" else 80  # the VAE takes most of the time
    portraits = draw(count, style)
    readings = reader.read(portraits if path == "drawn" else redraw_by_vae(portraits))
    scenes = [draw_scene(FRESH_SEED + i) for i in range(count)]
    for attribute in ATTRIBUTES:
        truth = [getattr(scene, attribute) for scene in scenes]
        right = sum(a == b for a, b in zip(readings[attribute], truth, strict=True))
        assert right / count >= LEAST_ACCURACY, attribute
    assert readings["style"].count(style) / count >= LEAST_ACCURACY


@pytest.mark.parametrize("style", ["plain", "shinobi"])
def test_changing_an_attribute_changes_its_reading_and_no_other(reader, style):
    scene = draw_scene(FRESH_SEED)
    variants = [
        dataclasses.replace(scene, **{attribute: value})
        for attribute, values in ATTRIBUTES.items()
        for value in values
    ]
    readings = reader.read([draw_portrait(variant, style) for variant in variants])
    for i, variant in enumerate(variants):
        read = {attribute: readings[attribute][i] for attribute in ATTRIBUTES}
        assert read == {attribute: getattr(variant, attribute) for attribute in ATTRIBUTES}


def test_a_portrait_is_read_as_its_caption_says(reader):
    readings = reader.read(draw(8, "poster"))
    for i in range(8):
        caption = write_caption(draw_scene(FRESH_SEED + i), "poster")
        assert read_caption(caption) == {name: readings[name][i] for name in ATTRIBUTES}


@pytest.mark.parametrize("path", ["drawn", "redrawn"])
def test_the_stated_accuracy_names_every_attribute_in_every_hand(path):
    stated = json.loads((READER_FOLDER / ACCURACY_NAME).read_text(encoding="utf-8"))
    assert stated["training_seeds"][1] < stated["held_out_seeds"][0]
    assert stated["held_out_seeds"][1] < FRESH_SEED
    assert stated["held_out_portraits_per_style"] >= 500
    assert list(stated[path]) == list(HANDS)
    for accuracy in stated[path].values():
        assert list(accuracy) == list(QUESTIONS)
        assert min(accuracy.values()) >= LEAST_ACCURACY


def test_probabilities_sum_to_one_and_the_largest_is_the_reading(reader):
    portraits = draw(5, "plain")
    readings = reader.read(portraits)
    for name, shares in reader.probabilities(portraits).items():
        assert shares.shape == (5, len(QUESTIONS[name]))
        assert torch.allclose(shares.sum(dim=1), torch.ones(5))
        likeliest = [QUESTIONS[name][place] for place in shares.argmax(dim=1)]
        assert readings[name] == likeliest


def test_a_picture_is_read_the_same_alone_and_among_others(reader):
    portraits = draw(70, "shinobi")
    together = reader.features(portraits)
    assert together.shape == (70, 128)
    assert together.dtype == torch.float32
    assert not together.requires_grad
    assert torch.allclose(together[69:], reader.features(portraits[69:]), atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-1)


@pytest.mark.parametrize("size", [48, 96, 512])
def test_a_picture_of_another_size_is_read_too(reader, size):
    scene = draw_scene(FRESH_SEED)
    larger = draw_portrait(scene, "shinobi").resize((size, size), Image.Resampling.BICUBIC)
    readings = reader.read([larger.convert("RGBA")])
    assert {name: readings[name][0] for name in ATTRIBUTES} == {
        name: getattr(scene, name) for name in ATTRIBUTES
    }


def test_no_pictures_give_no_readings(reader):
    assert reader.read([]) == {name: [] for name in QUESTIONS}
    assert reader.features([]).shape == (0, 128)


def test_it_has_no_more_parameters_than_the_package_has_room_for(reader):
    assert sum(parameter.numel() for parameter in reader.network.parameters()) <= 330_000


def test_the_lowest_accuracy_is_that_of_the_worst_attribute_of_the_styles_asked(tmp_path):
    told = {
        way: {"plain": {"eye_colour": 0.99, "style": 1.0}, "pencil": {"eye_colour": low}}
        for way, low in (("drawn", 0.7), ("redrawn", 0.6))
    }
    (tmp_path / "accuracy.json").write_text(json.dumps(told))
    assert lowest_accuracy(("plain",), tmp_path) == 0.99
    assert lowest_accuracy(("plain", "pencil"), tmp_path) == 0.6
    assert lowest_accuracy() >= 0.97
