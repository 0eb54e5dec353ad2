import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from rasengan_xl.config.comparison_settings import PictureSettings
from rasengan_xl.config.settings import ComputeSettings
from rasengan_xl.errors import AdapterError, DeviceError
from rasengan_xl.generation.drawing import describe_drawing, draw_pictures, list_requests
from rasengan_xl.generation.pairs import draw_pairs, find_ground
from rasengan_xl.generation.pipeline import MemorySavings, adapted, load_pipeline
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.model_folder import find_model
from rasengan_xl.training.run import run_training

CPU = choose_compute(ComputeSettings(device="cpu"))
PICTURES = PictureSettings(
    prompts=("a ninja with red hair", "a person at night"),
    seeds=(3,),
    sampler_steps=3,
    guidance=4.0,
    batch_size=2,
)


def pixels(picture):
    return np.asarray(picture).astype(int)


def pixels_of(file):
    with Image.open(file) as picture:
        return pixels(picture)


@pytest.fixture(scope="module", params=["lora", "qlora-aggressive", "dora"])
def run(request, tmp_path_factory, tiny_model, picture_folder):
    from rasengan_xl.config.recipe import load_recipe

    overrides = [
        f"base_model={tiny_model}",
        f"dataset.source={picture_folder}",
        "dataset.resolution=32",
        "dataset.shapes=square",
        "dataset.held_out_minimum=3",
        "training.steps=3",
        "training.warmup_steps=0",
        "training.learning_rate=0.02",
        "evaluation.pictures=1",
    ]
    folder = RunFolder(tmp_path_factory.mktemp("runs") / request.param)
    list(run_training(load_recipe(f"mini-{request.param}", overrides), folder))
    return folder


def test_plain_diffusers_draws_the_same_pictures_with_a_trained_adapter(run, tiny_model, tmp_path):
    ground = find_ground(run.path, None)
    pairs = list(draw_pairs(run.path, ground, PICTURES, tmp_path, MemorySavings()))
    plain = StableDiffusionXLPipeline.from_pretrained(tiny_model)
    plain.load_lora_weights(run.path)
    for pair in pairs:
        expected = plain(
            pair.prompt,
            num_inference_steps=3,
            guidance_scale=4.0,
            generator=torch.Generator().manual_seed(pair.seed),
            height=32,
            width=32,
        ).images[0]
        drawn = pixels_of(pair.adapted)
        assert np.abs(drawn - pixels(expected)).max() <= 2
        assert np.abs(drawn - pixels_of(pair.base)).max() > 2


def test_pictures_carry_their_settings(run, tmp_path):
    ground = find_ground(run.path, None)
    pair = next(draw_pairs(run.path, ground, PICTURES, tmp_path, MemorySavings()))
    with Image.open(pair.adapted) as picture:
        told = json.loads(picture.text["rasengan"])
    assert told["prompt"] == "a ninja with red hair"
    assert told["seed"] == 3
    assert told["guidance"] == 4.0
    assert told["adapter"].endswith("pytorch_lora_weights.safetensors")
    assert pixels_of(pair.pair).shape == (32, 32 + 2 + 32, 3)


def draw(pipeline, **changes):
    settings = PICTURES.model_copy(update=changes)
    return draw_pictures(pipeline, list_requests(settings), describe_drawing(settings, 32))


def test_the_base_is_untouched_once_the_adapter_is_off(run, tiny_model):
    pipeline = load_pipeline(find_model(str(tiny_model)), CPU, MemorySavings())
    before = [pixels(p) for p in draw(pipeline)]
    with adapted(pipeline, run.adapter_file, zero_terminal_snr=False):
        during = [pixels(p) for p in draw(pipeline)]
    after = [pixels(p) for p in draw(pipeline)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(before, during, strict=True))


def test_a_picture_does_not_depend_on_its_batch(tiny_model):
    pipeline = load_pipeline(find_model(str(tiny_model)), CPU, MemorySavings())
    together = list(draw(pipeline))
    alone = list(draw(pipeline, batch_size=1))
    for one, other in zip(together, alone, strict=True):
        assert np.abs(pixels(one) - pixels(other)).max() <= 1


def test_memory_savings_draw_nearly_the_same(tiny_model):
    model = find_model(str(tiny_model))
    usual = next(draw(load_pipeline(model, CPU, MemorySavings())))
    savings = MemorySavings(vae_slicing=True, vae_tiling=True, attention_slicing=True)
    sparing = next(draw(load_pipeline(model, CPU, savings)))
    assert np.abs(pixels(usual) - pixels(sparing)).mean() < 2


def test_offloading_without_a_gpu_is_refused(tiny_model):
    with pytest.raises(DeviceError, match="--offload"):
        load_pipeline(find_model(str(tiny_model)), CPU, MemorySavings(offload=True))


@pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters")
def test_an_adapter_of_another_base_is_refused(run, tiny_model):
    from rasengan_xl.mini import MODEL_FOLDER

    pipeline = load_pipeline(find_model(str(MODEL_FOLDER)), CPU, MemorySavings())
    with (
        pytest.raises(AdapterError, match="base"),
        adapted(pipeline, run.adapter_file, zero_terminal_snr=False),
    ):
        pass


def test_an_adapter_file_alone_does_not_tell_its_base(run, tmp_path):
    lone = tmp_path / "adapter.safetensors"
    lone.write_bytes(run.adapter_file.read_bytes())
    with pytest.raises(AdapterError, match="--base"):
        find_ground(lone, None)
    assert find_ground(lone, "mini").base_model == "mini"
