import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.config.comparison_settings import PictureSettings
from rasengan_xl.errors import AdapterError
from rasengan_xl.generation.drawing import draw_batches, draw_pictures
from rasengan_xl.generation.pipeline import adapted
from rasengan_xl.generation.requests import describe_drawing, list_requests
from rasengan_xl.sdxl.layers import list_layers
from rasengan_xl.sdxl.model_folder import find_model

PICTURES = PictureSettings(
    prompts=("a ninja with red hair", "a person at night"),
    seeds=(3,),
    sampler_steps=3,
    guidance=4.0,
    batch_size=2,
)


def pixels(picture):
    return np.asarray(picture).astype(int)


def draw(pipeline, **changes):
    settings = PICTURES.model_copy(update=changes)
    return draw_pictures(pipeline, list_requests(settings), describe_drawing(settings, 32))


@pytest.mark.parametrize("negative", [None, "ugly"])
def test_plain_diffusers_draws_the_same_pictures(pipeline, tiny_model, negative):
    plain = StableDiffusionXLPipeline.from_pretrained(tiny_model)
    for prompt, drawn in zip(
        PICTURES.prompts, draw(pipeline, negative_prompt=negative, batch_size=1), strict=True
    ):
        expected = plain(
            prompt,
            negative_prompt=negative,
            num_inference_steps=3,
            guidance_scale=4.0,
            generator=torch.Generator().manual_seed(3),
            height=32,
            width=32,
        ).images[0]
        assert np.array_equal(pixels(drawn), pixels(expected))


def test_the_base_is_untouched_once_the_adapter_is_off(lora_run, pipeline, tiny_model):
    contents = read_adapter(lora_run.adapter_file, list_layers(find_model(str(tiny_model))))
    before = [pixels(p) for p in draw(pipeline)]
    with adapted(pipeline, contents, from_pure_noise=False):
        during = [pixels(p) for p in draw(pipeline)]
    after = [pixels(p) for p in draw(pipeline)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(before, during, strict=True))


def test_a_picture_does_not_depend_on_its_batch(pipeline):
    for one, other in zip(draw(pipeline), draw(pipeline, batch_size=1), strict=True):
        assert np.abs(pixels(one) - pixels(other)).max() <= 1


def test_steps_are_told_while_a_batch_is_drawn(pipeline):
    told = []
    requests, drawing = list_requests(PICTURES), describe_drawing(PICTURES, 32)
    list(draw_batches(pipeline, requests, drawing, on_step=told.append))
    assert told == pytest.approx([1 / 3, 2 / 3, 1])


def test_an_adapter_of_another_base_is_refused(lora_run):
    with pytest.raises(AdapterError, match="base"):
        read_adapter(lora_run.adapter_file, list_layers(find_model("mini")))
