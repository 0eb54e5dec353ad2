import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from rasengan_xl.errors import ModelError
from rasengan_xl.sdxl.full_size import build_full_size_unet
from rasengan_xl.sdxl.single_file_names import (
    SECOND_ENCODER,
    single_file_tensors,
    unrecognized,
)


def build_encoder(kind, width, layers):
    return kind(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            projection_dim=width,
        )
    )


@pytest.fixture(scope="module")
def modules():
    """SDXL base 1.0 without weights."""
    with torch.device("meta"):
        return {
            "unet": build_full_size_unet(),
            "vae": AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2,
                latent_channels=4,
            ),
            "text_encoder": build_encoder(CLIPTextModel, 768, 12),
            "text_encoder_2": build_encoder(CLIPTextModelWithProjection, 1280, 32),
        }


@pytest.fixture(scope="module")
def stored(modules):
    """What a diffusers folder of it holds; transformers >= 5.6 leaves out one prefix."""
    return {
        f"{part}.{'text_model.' if part == 'text_encoder' else ''}{name}": tensor
        for part, module in modules.items()
        for name, tensor in module.named_parameters()
    }


@pytest.fixture(scope="module")
def single_file(modules, stored):
    plans = single_file_tensors(stored, modules["unet"])
    assert len({plan.name for plan in plans}) == len(plans)
    return {plan.name: plan.arrange([stored[name] for name in plan.sources]) for plan in plans}


def shapes(tensors, part):
    prefix = f"{part}."
    return {
        name.removeprefix(prefix): tuple(tensor.shape)
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def test_each_stored_weight_is_used_once(modules, stored):
    plans = single_file_tensors(stored, modules["unet"])
    used = [source for plan in plans for source in plan.sources]
    assert sorted(used) == sorted(stored)


def test_a_single_file_holds_what_the_published_one_does(single_file):
    """sd_xl_base_1.0.safetensors has 2,515: these, position_ids and an unused logit_scale."""
    counts = {
        prefix: sum(name.startswith(prefix) for name in single_file)
        for prefix in (
            "model.diffusion_model.",
            "first_stage_model.",
            "conditioner.embedders.0.transformer.text_model.",
            "conditioner.embedders.1.model.",
        )
    }
    assert list(counts.values()) == [1680, 248, 196, 32 * 12 + 5]
    assert len(single_file) == sum(counts.values()) == 2515 - 2


def test_diffusers_converts_every_weight_of_the_unet_back(modules, stored, single_file):
    converted = convert_ldm_unet_checkpoint(dict(single_file), dict(modules["unet"].config))
    names = shapes(stored, "unet")
    assert converted.keys() == names.keys()
    assert all(tensor is stored[f"unet.{name}"] for name, tensor in converted.items())


def test_diffusers_converts_every_weight_of_the_vae_back(modules, stored, single_file):
    converted = convert_ldm_vae_checkpoint(dict(single_file), dict(modules["vae"].config))
    names = shapes(stored, "vae")
    assert {name: tuple(tensor.shape) for name, tensor in converted.items()} == names
    moved = [name for name, tensor in converted.items() if tensor is not stored[f"vae.{name}"]]
    assert len(moved) == 8  # q, k, v and out, twice, are 1 x 1 convolutions in between
    assert single_file["first_stage_model.decoder.mid.attn_1.q.weight"].shape == (512, 512, 1, 1)


def test_diffusers_converts_every_weight_of_the_encoders_back(modules, stored, single_file):
    first = convert_ldm_clip_checkpoint(dict(single_file))
    assert all(tensor is stored[f"text_encoder.{name}"] for name, tensor in first.items())
    assert first.keys() == shapes(stored, "text_encoder").keys()
    second = convert_open_clip_checkpoint(
        modules["text_encoder_2"], dict(single_file), prefix=SECOND_ENCODER
    )
    kept = {name: tuple(tensor.shape) for name, tensor in second.items()}
    assert kept == shapes(stored, "text_encoder_2")


def test_all_programs_recognize_it_and_what_one_misses_is_named(single_file):
    assert unrecognized(single_file) == {}
    mark = f"{SECOND_ENCODER}ln_final.weight"
    assert unrecognized(name for name in single_file if name != mark) == {"A1111": [mark]}


def test_a_tensor_that_has_no_place_is_refused(modules):
    with pytest.raises(ModelError, match=r"unet\.extra\.weight: has no place"):
        single_file_tensors(["unet.extra.weight"], modules["unet"])
