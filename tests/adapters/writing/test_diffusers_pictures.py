"""An export for diffusers, loaded by diffusers, draws what our own way of applying it draws."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from rasengan_xl.adapters.applying import applied
from rasengan_xl.adapters.consumers.targets import find_target
from rasengan_xl.adapters.low_rank import Limits
from rasengan_xl.adapters.writing.adapter_file import write_adapter
from rasengan_xl.adapters.writing.conversion import ExportOptions
from rasengan_xl.mini import MODEL_FOLDER
from rasengan_xl.sdxl.layers import ADAPTED_PARTS

from .random_contents import CONVOLUTION, TEXT, finish, random_contents

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")


@pytest.fixture(scope="module")
def pipeline():
    pipeline = StableDiffusionXLPipeline.from_pretrained(MODEL_FOLDER)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def assert_diffusers_draws_the_same(pipeline, contents, folder):
    """Draw with what was exported to a.safetensors, and with what it was exported from."""
    parts = {part: getattr(pipeline, part) for part in ADAPTED_PARTS}
    with applied(parts, [contents], [1.0]):
        ours = draw(pipeline)
    pipeline.load_lora_weights(folder, weight_name="a.safetensors")
    theirs = draw(pipeline)
    pipeline.unload_lora_weights()
    assert np.abs(ours - theirs).max() < 2


def draw(pipeline):
    drawn = pipeline(
        "a ninja with red hair",
        num_inference_steps=2,
        height=64,
        width=64,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    )
    return drawn.images[0] * 255


@pytest.mark.parametrize(
    ("kind", "endings"),
    [
        ("lora", ATTENTION),
        ("lora", (*ATTENTION, *FEED_FORWARD)),
        ("rslora", ATTENTION),
        ("dora", ATTENTION),
        ("dora", (*ATTENTION, *FEED_FORWARD)),
    ],
)
def test_diffusers_draws_the_same_picture_with_the_export(
    mini_base, pipeline, tmp_path, kind, endings
):
    layers = [name for name in mini_base.layers.shapes if name.endswith(endings)]
    contents = random_contents(mini_base, kind, (*layers, CONVOLUTION, *TEXT), rank=4, alpha=6.0)
    options = ExportOptions(target=find_target("diffusers"), limits=Limits(residual=0.01))
    finish(write_adapter(contents, mini_base, tmp_path / "a.safetensors", options, lambda _: {}))

    base = draw(pipeline)
    parts = {part: getattr(pipeline, part) for part in ADAPTED_PARTS}
    with applied(parts, [contents], [1.0]):
        ours = draw(pipeline)
    pipeline.load_lora_weights(tmp_path, weight_name="a.safetensors")
    theirs = draw(pipeline)
    pipeline.unload_lora_weights()
    assert np.abs(ours - base).max() > 20
    assert np.abs(ours - theirs).max() < 2


def test_layers_of_several_ranks_and_alphas_keep_theirs(mini_base, pipeline, tmp_path):
    small = random_contents(mini_base, "lora", TEXT[:1], rank=2, alpha=8.0)
    unet = [name for name in mini_base.layers.shapes if name.endswith(ATTENTION)]
    large = random_contents(mini_base, "lora", (*unet[:8], *TEXT[1:], CONVOLUTION))
    other = random_contents(mini_base, "rslora", unet[8:], rank=3, alpha=1.5)
    changes = {**small.changes, **large.changes, **other.changes}
    several = type(small)(source=small.source, form="several", changes=changes, header={})
    options = ExportOptions(target=find_target("diffusers"), limits=Limits(residual=0.01))
    finish(write_adapter(several, mini_base, tmp_path / "a.safetensors", options, lambda _: {}))
    assert_diffusers_draws_the_same(pipeline, several, tmp_path)


def test_diffusers_reads_the_same_from_kohyas_form(mini_base, pipeline, tmp_path):
    endings = (*ATTENTION, *FEED_FORWARD, ".q_proj", ".k_proj", ".v_proj", ".out_proj")
    layers = [name for name in mini_base.layers.shapes if name.endswith(endings)]
    contents = random_contents(mini_base, "lora", (*layers, CONVOLUTION))
    options = ExportOptions(target=find_target("kohya"), limits=Limits(residual=0.01))
    finish(write_adapter(contents, mini_base, tmp_path / "a.safetensors", options, lambda _: {}))
    assert_diffusers_draws_the_same(pipeline, contents, tmp_path)
