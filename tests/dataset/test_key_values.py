"""The base's keys and values of captions: computed once, from the weights that a run has."""

import shutil
from collections import namedtuple

import pytest
import torch

from rasengan_xl.dataset import key_values
from rasengan_xl.dataset.encoded import encode_dataset
from rasengan_xl.dataset.key_values import count_captions, encode_key_values
from rasengan_xl.engine.caption_columns import caption_columns
from rasengan_xl.engine.weights import read_weight
from rasengan_xl.errors import DeviceError
from rasengan_xl.sdxl.components import load_unet
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model

from ..exhaust import collect, exhaust

Disk = namedtuple("Disk", "total used free")


@pytest.fixture
def encode(settings):
    """Encode a dataset, and the keys and values of its captions with a base precision."""

    def work(precision="full", **changes):
        chosen = settings(adapter={"base_precision": precision}, **changes)
        model, compute = find_model(chosen.base_model), choose_compute(chosen.compute)
        dataset = exhaust(encode_dataset(chosen, model, compute))
        return encode_key_values(dataset, chosen, model, compute)

    return work


@pytest.mark.parametrize("precision", ["full", "nf4", "int8"])
def test_they_are_what_the_layers_make_of_the_caption(encode, settings, precision):
    pictures = exhaust(encode(precision)).train
    chosen = settings()
    compute = choose_compute(chosen.compute)
    unet = load_unet(find_model(chosen.base_model), compute, precision)
    wording = pictures.pictures[0].wordings[0]
    (kept,), (states,) = pictures.kept_key_values(wording), pictures.prompt(wording).states
    columns = caption_columns(load_unet(find_model(chosen.base_model), compute, "full"))
    assert len(columns) == 8
    for name, place in columns.items():
        expected = states @ read_weight(unet.get_submodule(name)).T
        torch.testing.assert_close(kept[:, place.start : place.stop], expected)


@pytest.mark.parametrize("null", ["zeros", "empty"])
def test_no_caption_has_some_too(encode, null):
    pictures = exhaust(encode(caption={"null": null})).train
    kept = pictures.kept_key_values(pictures.null_key)
    assert bool(kept.any()) is (null == "empty")


def test_the_second_time_nothing_is_computed_and_another_precision_has_its_own(
    encode, monkeypatch, tmp_path
):
    monkeypatch.setenv("RASENGAN_CACHE", str(tmp_path))
    for precision in ("full", "nf4"):
        records, dataset = collect(encode(precision))
        assert records[-1].done == count_captions(dataset) > 1
        assert collect(encode(precision))[0] == []
    assert len(list((tmp_path / "key_values").iterdir())) == 2


def test_what_the_disk_must_hold_is_told_and_refused_if_it_cannot(encode, monkeypatch, tmp_path):
    monkeypatch.setenv("RASENGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10**9, 10**9, 10**6))
    with pytest.raises(DeviceError, match=r"13 captions take 2.1 MB in .* has 0.0 MB left: make"):
        exhaust(encode())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10**12, 0, 10**12))
    records, _ = collect(encode())
    assert "keys and values of 13 captions take 2.1 MB in " in records[0].note
    assert {record.stage for record in records} == {key_values.STAGE}
