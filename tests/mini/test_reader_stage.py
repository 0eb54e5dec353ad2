import dataclasses
import json

import numpy as np
import pytest
import torch

from rasengan_xl.mini import MODEL_FOLDER
from rasengan_xl.mini.pretrain import reader, reader_stage
from rasengan_xl.mini.pretrain.pictures import FIRST_HELD_OUT_SEED, FIRST_TRAINING_SEED
from rasengan_xl.mini.reader import QUESTIONS, load_reader
from rasengan_xl.mini.world.hands import HANDS
from rasengan_xl.mini.world.portraits import draw_portrait
from rasengan_xl.mini.world.scenes import draw_scene


@pytest.fixture
def drawn_subjects(monkeypatch):
    """Four steps on a few portraits, drawn in this process; returns those that were drawn."""
    seen = []

    def draw(subjects, file=None):
        seen.extend(subjects)
        portraits = [draw_portrait(draw_scene(s.seed), s.style) for s in subjects]
        return np.stack([np.asarray(portrait).transpose(2, 0, 1) for portrait in portraits])

    short = dataclasses.replace(reader.SETTINGS, steps=4, warmup_steps=1, save_every=2)
    monkeypatch.setattr(reader, "SETTINGS", short)
    monkeypatch.setattr(reader, "BATCH_SIZE", 4)
    monkeypatch.setattr(reader_stage, "READER_PICTURES", dict.fromkeys(HANDS, 3))
    monkeypatch.setattr(reader_stage, "HELD_OUT_PICTURES_PER_STYLE", 2)
    monkeypatch.setattr(reader_stage, "draw_pictures", draw)
    return seen


def build(work, out, model=MODEL_FOLDER):
    return reader_stage.build_reader(work, model, out, torch.device("cpu"))


def read_weights(out):
    return (out / "reader" / "weights.safetensors").read_bytes()


def test_a_reader_whose_training_was_stopped_goes_on_to_the_same_weights(tmp_path, drawn_subjects):
    whole = list(build(tmp_path / "work", tmp_path / "whole"))
    assert [record.step for record in whole] == [1, 2, 3, 4]

    for record in build(tmp_path / "again", tmp_path / "stopped"):
        if record.step == 3:
            break
    rest = list(build(tmp_path / "again", tmp_path / "stopped"))
    assert rest == whole[2:]
    assert read_weights(tmp_path / "stopped") == read_weights(tmp_path / "whole")

    assert not list(build(tmp_path / "work", tmp_path / "rewritten")), "it was trained already"
    assert read_weights(tmp_path / "rewritten") == read_weights(tmp_path / "whole")


def test_it_states_how_well_it_reads_which_portraits(tmp_path, drawn_subjects):
    list(build(tmp_path / "work", tmp_path))
    stated = json.loads((tmp_path / "reader" / "accuracy.json").read_text())
    assert stated["training_seeds"] == [FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 14]
    assert stated["held_out_seeds"] == [FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + 1]
    seeds = {subject.seed for subject in drawn_subjects}
    assert seeds == {*range(1_000_000, 1_000_015), 2_000_000, 2_000_001}

    scene = draw_scene(FIRST_HELD_OUT_SEED), draw_scene(FIRST_HELD_OUT_SEED + 1)
    readings = load_reader(folder=tmp_path / "reader").read(
        [draw_portrait(one, "pencil") for one in scene]
    )
    for name in QUESTIONS:
        truth = ["pencil"] * 2 if name == "style" else [getattr(one, name) for one in scene]
        right = sum(a == b for a, b in zip(readings[name], truth, strict=True))
        assert stated["drawn"]["pencil"][name] == right / 2


def test_a_reader_trained_on_one_vae_is_not_taken_for_that_of_another(
    tmp_path, drawn_subjects, tiny_model
):
    list(build(tmp_path / "work", tmp_path / "one"))
    assert len(list(build(tmp_path / "work", tmp_path / "other", tiny_model))) == 4
    assert read_weights(tmp_path / "one") != read_weights(tmp_path / "other")
