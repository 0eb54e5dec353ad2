import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from rasengan_xl.config.settings import ComputeSettings
from rasengan_xl.errors import DeviceError
from rasengan_xl.sdxl.components import load_text_encoders, load_tokenizers, load_vae
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.latents import encode_pictures
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.sdxl.prompts import count_cut_captions, encode_captions

CPU = choose_compute(ComputeSettings(device="cpu"))


def test_captions_are_encoded_as_diffusers_own_pipeline_does(tiny_model):
    model = find_model(str(tiny_model))
    captions = ["a ninja with red hair", "a person at night, " * 30]
    encoders = load_text_encoders(model, CPU)
    encoded = encode_captions(captions, load_tokenizers(model), encoders, 5)
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_model)
    states, _, pooled, _ = pipeline.encode_prompt(captions, do_classifier_free_guidance=False)
    torch.testing.assert_close(encoded.states, states)
    torch.testing.assert_close(encoded.pooled, pooled)
    assert count_cut_captions(captions, load_tokenizers(model)) == 1


def test_a_picture_is_encoded_alike_whatever_else_its_batch_holds(tiny_model):
    vae = load_vae(find_model(str(tiny_model)), CPU.device)
    pictures = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    together = encode_pictures(vae, pictures, 3)
    for one, picture in zip(together, pictures, strict=True):
        (alone,) = encode_pictures(vae, [picture], 3)
        assert alone.is_finite
        assert torch.equal(one.mean, alone.mean)
        assert torch.equal(one.deviation, alone.deviation)
        assert one.mean.shape == (4, 8, 8)


def test_a_cpu_computes_in_float32_unless_told():
    assert CPU.dtype is torch.float32
    told = choose_compute(ComputeSettings(device="cpu", precision="bf16"))
    assert told.dtype is torch.bfloat16


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(DeviceError, match="needs a GPU"):
        choose_compute(ComputeSettings(device="cpu", precision="fp16"))


def test_cuda_where_there_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="sees no GPU"):
        choose_compute(ComputeSettings(device="cuda"))
