import shutil

import pytest
import torch
from PIL import Image

from rasengan_xl.dataset import encoding
from rasengan_xl.dataset.encoded import encode_dataset
from rasengan_xl.errors import DatasetError
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.components import load_vae
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.latents import encode_pictures
from rasengan_xl.sdxl.model_folder import find_model

from ..exhaust import collect, exhaust


def work_on(settings):
    return encode_dataset(
        settings, find_model(settings.base_model), choose_compute(settings.compute)
    )


def encode(settings):
    return exhaust(work_on(settings))


@pytest.fixture
def fresh_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RASENGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(picture_folder, tmp_path):
    return shutil.copytree(picture_folder, tmp_path / "pictures")


def latents_of(pictures):
    return [pictures.mean(row) for row in range(len(pictures))]


def test_every_picture_is_trained_on_held_out_or_skipped_and_counted(settings, fresh_cache, folder):
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "broken.txt").write_text("a ninja")
    Image.new("RGB", (3, 3)).save(folder / "tiny.png")
    (folder / "tiny.txt").write_text("a very small ninja")
    Image.new("RGB", (64, 64)).save(folder / "speechless.png")
    records, dataset = collect(work_on(settings(dataset={"source": str(folder)})))
    facts = dataset.facts
    assert (facts.train, facts.held_out, facts.found) == (9, 3, 15)
    (note,) = {record.note for record in records if record.note}
    assert "9 pictures to train on, 3 held out, 3 skipped (" in note
    assert "1 too small" in note
    assert sum(facts.skipped.values()) == 3
    assert facts.skipped["too small"] == facts.skipped["no caption"] == 1


def test_the_second_time_nothing_is_encoded(settings, fresh_cache):
    first = encode(settings())
    records, second = collect(work_on(settings()))
    assert all(isinstance(record, StageProgress) for record in records)
    stages = {record.stage for record in records}
    assert not {"encode captions", "encode pictures"} & stages
    assert (first.crops_encoded.encoded, second.crops_encoded.encoded) == (12, 0)
    assert second.captions_encoded.encoded == 0
    assert first.facts == second.facts
    for one, other in zip(latents_of(first.train), latents_of(second.train), strict=True):
        assert torch.equal(one, other)


def test_one_changed_caption_encodes_one_entry_anew(settings, fresh_cache, folder):
    chosen = settings(dataset={"source": str(folder)})
    encode(chosen)
    (folder / "00.txt").write_text("a ninja nobody has seen")
    again = encode(chosen)
    assert again.captions_encoded.encoded == 1
    assert again.crops_encoded.encoded == 0


def test_one_changed_picture_encodes_one_entry_anew(settings, fresh_cache, folder):
    chosen = settings(dataset={"source": str(folder)})
    encode(chosen)
    Image.new("RGB", (40, 40), "red").save(folder / "00.png")
    again = encode(chosen)
    assert again.captions_encoded.encoded == 0
    assert again.crops_encoded.encoded == 1


def test_an_entry_does_not_depend_on_what_else_was_missing(settings, fresh_cache, monkeypatch):
    together = encode(settings())
    monkeypatch.setenv("RASENGAN_CACHE", str(fresh_cache / "other"))
    encode(settings(dataset={"held_out_minimum": 1, "split": "train"}))
    picture = together.train.pictures[0]
    for shard in (fresh_cache / "other").rglob("*.safetensors"):
        shard.unlink()
    monkeypatch.setattr(encoding, "CAPTIONS_AT_ONCE", 32)
    alone = exhaust(
        encoding.encode_crops(
            [
                encoding.CropRequest(planned.picture, planned.crops[0], "white")
                for planned in together.train_plan[:1]
            ],
            find_model(settings().base_model),
            choose_compute(settings().compute),
            encoding.Ranks(),
        )
    )[0]
    entry = together.train.latents.read(picture.crops[0].key)
    assert torch.equal(alone.read(picture.crops[0].key)["mean"], entry["mean"])


def test_equal_captions_are_encoded_once(settings, fresh_cache, folder):
    for file in folder.glob("*.txt"):
        file.write_text("a ninja")
    facts = encode(settings(dataset={"source": str(folder)})).captions_encoded
    assert facts.asked == 2, "the caption, and the empty one"


@pytest.mark.parametrize("null", ["zeros", "empty"])
def test_the_null_caption_is_zeros_or_the_encoded_empty_text(settings, fresh_cache, null):
    prompt = encode(settings(caption={"null": null})).train.null_prompt
    assert bool(prompt.states.any()) == bool(prompt.pooled.any()) == (null == "empty")


def test_latents_are_what_the_vae_gives_for_the_cropped_picture(settings, fresh_cache):
    chosen = settings()
    dataset = encode(chosen)
    vae = load_vae(find_model(chosen.base_model), torch.device("cpu"))
    assert dataset.train.scaling_factor == vae.config.scaling_factor
    planned, picture = dataset.train_plan[0], dataset.train.pictures[0]
    cut = encoding.CropRequest(planned.picture, planned.crops[0], "white").cut()
    (expected,) = encode_pictures(vae, [cut], 1)
    posterior = dataset.train.posterior(picture.crops[0])
    torch.testing.assert_close(posterior.mean, expected.mean)
    torch.testing.assert_close(posterior.deviation, expected.deviation)
    height, width, top, left, *target = picture.crops[0].size_numbers
    assert (height, top, target) == (40, 0, [32, 32])
    assert left == (round(width * 32 / 40) - 32) // 2


def test_flipping_doubles_the_crops(settings, fresh_cache):
    train = encode(settings(dataset={"flip": True})).train
    one, other = (train.posterior(crop).mean for crop in train.pictures[0].crops)
    assert not torch.equal(one, other)


def test_pictures_of_several_shapes_keep_them(settings, fresh_cache, folder):
    Image.new("RGB", (128, 64), "red").save(folder / "00.png")
    dataset = encode(
        settings(dataset={"source": str(folder), "shapes": "buckets", "bucket_multiple": 8})
    )
    pictures = [*dataset.train.pictures, *dataset.held_out.pictures]
    assert len({picture.size for picture in pictures}) > 1
    for picture in dataset.train.pictures:
        height, width = picture.size
        assert dataset.train.posterior(picture.crops[0]).mean.shape == (4, height // 4, width // 4)


def test_a_latent_that_is_not_finite_stops_and_names_the_picture(
    settings, fresh_cache, monkeypatch
):
    def broken(model, device):
        vae = load_vae(model, device)
        vae.quant_conv.bias.data.fill_(float("nan"))
        return vae

    monkeypatch.setattr(encoding, "load_vae", broken)
    with pytest.raises(DatasetError, match=r"\d\d.png: the VAE encodes it to something not finite"):
        encode(settings())
    assert not list(fresh_cache.rglob("latents/*/*.safetensors"))


def test_what_was_encoded_before_an_interruption_is_not_encoded_again(
    settings, fresh_cache, monkeypatch
):
    monkeypatch.setattr(encoding, "PIXELS_AT_ONCE", {"cpu": 32 * 32})
    work = work_on(settings())
    for record in work:
        if record.stage == "encode pictures" and record.done == 5:
            work.close()
            break
    assert encode(settings()).crops_encoded.encoded == 12 - 5
