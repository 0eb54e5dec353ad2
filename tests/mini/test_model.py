import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from rasengan_xl.mini import MODEL_FOLDER
from rasengan_xl.mini.pretrain.autoencoder import reconstruction_psnr_db
from rasengan_xl.mini.pretrain.pictures import FIRST_HELD_OUT_SEED
from rasengan_xl.mini.reader.loading import READER_FOLDER, WEIGHTS_NAME
from rasengan_xl.mini.world.hands import HANDS
from rasengan_xl.mini.world.portraits import draw_portrait
from rasengan_xl.mini.world.scenes import draw_scene

LARGEST_MODEL_BYTES = 20_000_000


@pytest.fixture(scope="module")
def pipeline():
    pipeline = StableDiffusionXLPipeline.from_pretrained(MODEL_FOLDER)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_what_ships_of_the_model_and_its_reader_is_small_enough():
    model = [file for file in MODEL_FOLDER.rglob("*") if file.is_file()]
    reader = READER_FOLDER / WEIGHTS_NAME
    assert sum(file.stat().st_size for file in (*model, reader)) <= LARGEST_MODEL_BYTES


def test_it_is_an_sdxl_with_layers_named_as_in_sdxl(pipeline):
    assert pipeline.unet.config.addition_embed_type == "text_time"
    assert pipeline.tokenizer.pad_token_id == pipeline.tokenizer.eos_token_id
    assert pipeline.tokenizer_2.pad_token_id == 0
    linears = [n for n, m in pipeline.unet.named_modules() if isinstance(m, torch.nn.Linear)]
    for ending in ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"):
        assert [name for name in linears if name.endswith(ending)]


def test_nf4_can_store_every_linear_layer(pipeline):
    for module in pipeline.unet.modules():
        if isinstance(module, torch.nn.Linear):
            assert module.in_features % 32 == 0
            assert module.weight.numel() % 64 == 0


@pytest.mark.parametrize("style", HANDS)
def test_the_vae_redraws_unseen_portraits_of_every_style(pipeline, style):
    pictures = np.stack(
        [
            np.asarray(draw_portrait(draw_scene(FIRST_HELD_OUT_SEED + i), style)).transpose(2, 0, 1)
            for i in range(24)
        ]
    )
    assert reconstruction_psnr_db(pipeline.vae, torch.from_numpy(pictures)) >= 27


def test_the_base_draws_what_the_caption_says(pipeline):
    """At night the upper left corner is dark, under a blue sky it is light and blue."""
    prompts = [
        "a ninja with short black hair and blue eyes, in a black jacket, at night",
        "a ninja with short black hair and blue eyes, in a black jacket, under a blue sky",
    ]
    drawn = pipeline(
        prompts,
        num_inference_steps=12,
        guidance_scale=4.0,
        generator=[torch.Generator().manual_seed(0) for _ in prompts],
        output_type="np",
    ).images
    night, sky = (picture[:24, :12].mean(axis=(0, 1)) for picture in drawn)
    assert night.max() < 0.45
    assert sky[2] > 0.5
    assert sky[2] > sky[0]
