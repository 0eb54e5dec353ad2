import shutil

import pytest
import torch

from rasengan_xl.dataset.encoded import encode_dataset
from rasengan_xl.errors import DatasetError
from rasengan_xl.runs.records import StageProgress
from rasengan_xl.sdxl.components import load_vae
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model


def encode(settings):
    stages = []
    work = encode_dataset(
        settings, find_model(settings.base_model), choose_compute(settings.compute)
    )
    while True:
        try:
            stages.append(next(work))
        except StopIteration as end:
            return stages, end.value


@pytest.fixture
def fresh_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RASENGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_every_picture_is_trained_on_or_held_out_and_counted(settings, fresh_cache):
    _, dataset = encode(settings())
    assert dataset.facts.train == len(dataset.train) == 9
    assert dataset.facts.held_out == len(dataset.held_out) == 3
    assert dataset.train.means.shape == (9, 1, 4, 8, 8)
    assert not set(dataset.train.digests) & set(dataset.held_out.digests)


def test_the_second_time_everything_comes_from_the_cache(settings, fresh_cache):
    first_stages, first = encode(settings())
    stages, second = encode(settings())
    encoded = {"encode captions", "encode pictures"}
    assert encoded <= {stage.stage for stage in first_stages}
    assert not encoded & {stage.stage for stage in stages}
    assert torch.equal(first.train.means, second.train.means)
    assert first.facts == second.facts
    assert all(isinstance(stage, StageProgress) for stage in stages)


def test_a_changed_caption_is_encoded_anew(settings, fresh_cache, picture_folder, tmp_path):
    folder = shutil.copytree(picture_folder, tmp_path / "pictures")
    encode(settings(dataset={"source": str(folder)}))
    (folder / "00.txt").write_text("a ninja")
    stages, _ = encode(settings(dataset={"source": str(folder)}))
    assert "encode captions" in {stage.stage for stage in stages}


def test_latents_are_what_the_vae_gives_for_the_cropped_picture(settings, fresh_cache):
    chosen = settings()
    _, dataset = encode(chosen)
    vae = load_vae(find_model(chosen.base_model), torch.device("cpu"))
    assert dataset.train.scaling_factor == vae.config.scaling_factor
    widths = {numbers[1] for numbers in dataset.train.size_numbers[:, 0].tolist()}
    assert widths == {40, 44, 48}
    for height, width, top, left, *target in dataset.train.size_numbers[:, 0].tolist():
        assert (height, top, target) == (40, 0, [32, 32])
        assert left == (round(width * 32 / 40) - 32) // 2


def test_flipping_doubles_the_variants(settings, fresh_cache):
    _, dataset = encode(settings(dataset={"flip": True}))
    assert dataset.train.means.shape[1] == 2
    assert not torch.equal(dataset.train.means[:, 0], dataset.train.means[:, 1])


def test_a_latent_that_is_not_finite_stops_and_names_the_picture(
    settings, fresh_cache, monkeypatch
):
    from rasengan_xl.dataset import encoding

    def broken(model, device):
        vae = load_vae(model, device)
        vae.quant_conv.bias.data.fill_(float("nan"))
        return vae

    monkeypatch.setattr(encoding, "load_vae", broken)
    with pytest.raises(DatasetError, match=r"\d\d.png: the VAE encodes it to something not finite"):
        encode(settings())
    assert not list(fresh_cache.glob("latents-*"))
