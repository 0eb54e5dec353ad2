"""Exports, read and computed by formulas that are written here anew from what is published.

They share nothing with the evaluators that an export is checked by, so that a mistake in those
shows.  Sources: kohya-ss/sd-scripts, networks/sdxl_merge_lora.py; KohakuBlueleaf/LyCORIS,
lycoris/functional/general.py; comfyanonymous/ComfyUI, comfy/weight_adapter/; A1111's
extensions-builtin/Lora/network.py.
"""

import re

import pytest
import torch
from safetensors.torch import load_file

from rasengan_xl.adapters.changes import weight_change
from rasengan_xl.adapters.consumers.targets import find_target
from rasengan_xl.adapters.low_rank import Limits
from rasengan_xl.adapters.writing.adapter_file import write_adapter
from rasengan_xl.adapters.writing.conversion import ExportOptions

from ..writing.random_contents import ATTENTION, EVERYWHERE, FEED_FORWARD, finish, random_contents

TOLERANCE = 1e-5
SGM_BLOCK = "middle_block_1_transformer_blocks_0_"
KOHYA_NAMES = {
    "unet.mid_block.attentions.0.transformer_blocks.0.": f"lora_unet_{SGM_BLOCK}",
    "unet.up_blocks.0.upsamplers.0.conv": "lora_unet_output_blocks_1_2_conv",
    "text_encoder.text_model.": "lora_te1_text_model_",
    "text_encoder_2.text_model.": "lora_te2_text_model_",
}


def kohya_name(layer: str) -> str:
    ours = next(ours for ours in KOHYA_NAMES if layer.startswith(ours))
    return KOHYA_NAMES[ours] + layer.removeprefix(ours).replace(".", "_")


def product(tensors, name):
    """W' - W of a plain LoRA, one output channel and one tap of the kernel at a time."""
    down = tensors[f"{name}.lora_down.weight"].double()
    up = tensors[f"{name}.lora_up.weight"].double()
    alpha = float(tensors[f"{name}.alpha"])
    flat_up = up.reshape(up.shape[0], -1)
    change = torch.zeros(up.shape[0], *down.shape[1:], dtype=torch.float64)
    for r in range(down.shape[0]):
        column = flat_up[:, r].reshape(-1, *(1,) * (down.dim() - 1))
        change += column * down[r] * (alpha / down.shape[0])
    return change


def lycoris(tensors, name, weight):
    changed = weight + product(tensors, name)
    scale = tensors[f"{name}.dora_scale"].double()
    norms = torch.stack([row.square().sum().sqrt() for row in changed]).reshape(scale.shape)
    return changed * (scale / (norms + torch.finfo(torch.float32).eps)) - weight


def comfyui(tensors, name, weight, *, after_15458):
    changed = weight + product(tensors, name)
    scale = tensors[f"{name}.dora_scale"].double()
    assert scale.shape[0] == weight.shape[0], "it tells the axis by this"
    of = changed if after_15458 else weight
    norms = torch.stack([row.square().sum().sqrt() for row in of])
    norms = norms.reshape(-1, *(1,) * (weight.dim() - 1)) + torch.finfo(torch.float32).eps
    return changed * (scale / norms) - weight


def by_input(tensors, name, weight):
    changed = weight + product(tensors, name)
    scale = tensors[f"{name}.dora_scale"].double()
    columns = [changed[:, j].square().sum().sqrt() for j in range(changed.shape[1])]
    norms = torch.stack(columns).reshape(1, -1, *(1,) * (weight.dim() - 2))
    return changed * (scale / norms) - weight


def export(mini_base, contents, file, consumer, version=None, residual=1e-7):
    options = ExportOptions(target=find_target(consumer, version), limits=Limits(residual=residual))
    return finish(write_adapter(contents, mini_base, file, options, lambda _: {}))


def assert_equal(found, contents, layer, weight):
    trained = weight_change(contents.changes[layer], weight)
    assert (found - trained).norm() <= TOLERANCE * trained.norm(), layer


@pytest.mark.parametrize("layers", [ATTENTION, (*ATTENTION, *FEED_FORWARD), EVERYWHERE])
@pytest.mark.parametrize("kind", ["lora", "rslora", "tucker", "dora"])
@pytest.mark.parametrize("consumer", ["kohya", "comfyui", "a1111"])
def test_a_plain_export_is_the_trained_change(mini_base, tmp_path, consumer, kind, layers):
    contents = random_contents(mini_base, kind, layers, rank=4, alpha=6.0)
    export(mini_base, contents, tmp_path / "a.safetensors", consumer)
    tensors = load_file(tmp_path / "a.safetensors")
    assert len(tensors) == 3 * len(layers)
    for layer in layers:
        weight = mini_base.weight(layer).double()
        assert_equal(product(tensors, kohya_name(layer)), contents, layer, weight)


@pytest.mark.parametrize(
    ("consumer", "version", "formula"),
    [
        ("kohya", "lycoris@3.2", lycoris),
        ("comfyui", "comfyui@0.3.77", lambda *of: comfyui(*of, after_15458=False)),
        ("comfyui", "comfyui@pr15458", lambda *of: comfyui(*of, after_15458=True)),
    ],
)
def test_dora_for_a_version_is_that_versions_formula(
    mini_base, tmp_path, consumer, version, formula
):
    contents = random_contents(mini_base, "dora")
    report = export(mini_base, contents, tmp_path / "a.safetensors", consumer, version)
    assert not report.approximated
    tensors = load_file(tmp_path / "a.safetensors")
    for layer in EVERYWHERE:
        weight = mini_base.weight(layer).double()
        assert_equal(formula(tensors, kohya_name(layer), weight), contents, layer, weight)


@pytest.mark.parametrize(
    ("consumer", "version"), [("comfyui", "comfyui@0.3.77"), ("a1111", "a1111@1.10")]
)
def test_dora_by_input_is_written_for_those_who_know_it(mini_base, tmp_path, consumer, version):
    contents = random_contents(mini_base, "dora-by-input")
    report = export(mini_base, contents, tmp_path / "a.safetensors", consumer, version)
    assert not report.approximated
    tensors = load_file(tmp_path / "a.safetensors")
    for layer in EVERYWHERE:
        weight = mini_base.weight(layer).double()
        assert_equal(by_input(tensors, kohya_name(layer), weight), contents, layer, weight)


def test_one_versions_dora_is_wrong_in_the_other(mini_base, tmp_path):
    contents = random_contents(mini_base, "dora", ATTENTION)
    export(mini_base, contents, tmp_path / "a.safetensors", "comfyui", "comfyui@0.3.77")
    tensors = load_file(tmp_path / "a.safetensors")
    weight = mini_base.weight(ATTENTION[0]).double()
    misread = comfyui(tensors, kohya_name(ATTENTION[0]), weight, after_15458=True)
    with pytest.raises(AssertionError):
        assert_equal(misread, contents, ATTENTION[0], weight)


def test_names_are_stabilitys_and_nothing_else_is_in_the_file(mini_base, tmp_path):
    contents = random_contents(mini_base, "lora")
    export(mini_base, contents, tmp_path / "a.safetensors", "kohya")
    endings = r"\.(lora_down\.weight|lora_up\.weight|alpha)"
    for name in load_file(tmp_path / "a.safetensors"):
        assert re.fullmatch(rf"lora_(unet|te1|te2)_\w+{endings}", name)
