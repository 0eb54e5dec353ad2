import dataclasses

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from rasengan_xl.mini.pretrain import autoencoder, denoiser, reader, reader_stage, stages, text


@pytest.mark.slow
def test_a_model_is_built_from_nothing_and_plain_diffusers_loads_it(tmp_path, monkeypatch):
    for part in (autoencoder, denoiser, text, reader):
        short = dataclasses.replace(part.SETTINGS, steps=2, warmup_steps=1)
        monkeypatch.setattr(part, "SETTINGS", short)
        monkeypatch.setattr(part, "BATCH_SIZE", 2)
    monkeypatch.setattr(stages, "CAPTIONS_PER_STYLE", 20)
    monkeypatch.setattr(stages, "VAE_PICTURES_PER_STYLE", 2)
    monkeypatch.setattr(stages, "UNET_PICTURES", {"plain": 4, "pencil": 2})
    monkeypatch.setattr(stages, "HELD_OUT_PICTURES_PER_STYLE", 2)
    monkeypatch.setattr(reader_stage, "READER_PICTURES", {"plain": 3, "shinobi": 3})
    monkeypatch.setattr(reader_stage, "HELD_OUT_PICTURES_PER_STYLE", 2)
    records = list(stages.pretrain(tmp_path / "work", tmp_path / "out", torch.device("cpu")))
    assert [r.stage for r in records if r.step == 2] == ["text encoders", "vae", "unet", "reader"]

    pipeline = StableDiffusionXLPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a ninja", num_inference_steps=1).images[0].size == (64, 64)
    weights = list((tmp_path / "out").rglob("*.safetensors"))
    assert len(weights) == 5

    done = list(stages.pretrain(tmp_path / "work", tmp_path / "again", torch.device("cpu")))
    assert not done, "everything was trained already"
    first, second = (
        (tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
        for name in ("out", "again")
    )
    assert first == second
