import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.files import save_adapter
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.config.comparison_settings import PictureSettings
from rasengan_xl.config.dataset_settings import DatasetSettings
from rasengan_xl.config.settings import (
    AdapterSettings,
    ComputeSettings,
    RunSettings,
)
from rasengan_xl.errors import AdapterError, ModelError
from rasengan_xl.generation.drawing import draw_pictures
from rasengan_xl.generation.ground import find_ground
from rasengan_xl.generation.memory import MemorySavings
from rasengan_xl.generation.pipeline import adapted, load_pipeline
from rasengan_xl.generation.requests import describe_drawing, list_requests
from rasengan_xl.runs.folder import RunFolder
from rasengan_xl.sdxl.compute import choose_compute
from rasengan_xl.sdxl.layers import list_layers
from rasengan_xl.sdxl.model_folder import find_model

CPU = choose_compute(ComputeSettings(device="cpu"))
PICTURES = PictureSettings(prompts=("a ninja at night",), seeds=(3,), sampler_steps=3, guidance=4.0)


@pytest.fixture(scope="module")
def velocity_model(tiny_model, tmp_path_factory):
    """The tiny model, as if it predicted velocity."""
    folder = tmp_path_factory.mktemp("velocity") / "model"
    shutil.copytree(tiny_model, folder)
    scheduler = EulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    scheduler.register_to_config(prediction_type="v_prediction")
    scheduler.save_pretrained(folder / "scheduler")
    return folder


@pytest.fixture(scope="module")
def adapter_file(tiny_model, tmp_path_factory):
    """An adapter that changes pictures."""
    unet = UNet2DConditionModel.from_pretrained(tiny_model, subfolder="unet")
    adapter = attach_adapter(unet, AdapterSettings(rank=2), seed=0)
    with torch.no_grad():
        for parameter in adapter.parameters.values():
            parameter.add_(0.05)
    file = tmp_path_factory.mktemp("adapter") / "pytorch_lora_weights.safetensors"
    save_adapter(adapter, file)
    return file


@pytest.fixture(scope="module")
def contents(adapter_file, tiny_model):
    return read_adapter(adapter_file, list_layers(find_model(str(tiny_model))))


def draw(pipeline):
    return np.asarray(
        next(draw_pictures(pipeline, list_requests(PICTURES), describe_drawing(PICTURES, 32)))
    ).astype(int)


def test_an_adapter_trained_with_zero_terminal_snr_is_drawn_from_pure_noise(
    velocity_model, adapter_file, contents
):
    pipeline = load_pipeline(find_model(str(velocity_model)), CPU, MemorySavings())
    base = draw(pipeline)
    with adapted(pipeline, contents, from_pure_noise=True):
        drawn = draw(pipeline)
        assert pipeline.scheduler.alphas_cumprod[-1] <= 2**-24
        assert pipeline.scheduler.timesteps[0] == 999
    assert np.array_equal(draw(pipeline), base)  # by the base's own sampler again
    with adapted(pipeline, contents, from_pure_noise=False):
        assert np.abs(draw(pipeline) - drawn).max() > 2

    plain = StableDiffusionXLPipeline.from_pretrained(velocity_model)
    plain.load_lora_weights(adapter_file.parent)
    plain.scheduler = EulerDiscreteScheduler.from_config(
        plain.scheduler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    expected = plain(
        "a ninja at night",
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
        height=32,
        width=32,
    ).images[0]
    assert np.abs(drawn - np.asarray(expected).astype(int)).max() <= 2


def test_a_sampler_that_cannot_begin_from_pure_noise_is_refused_and_the_adapter_comes_off(
    velocity_model, contents
):
    pipeline = load_pipeline(find_model(str(velocity_model)), CPU, MemorySavings())
    before = {name: p.clone() for name, p in pipeline.unet.named_parameters()}
    pipeline.scheduler = PNDMScheduler(skip_prk_steps=True)
    with (
        pytest.raises(ModelError, match="PNDMScheduler cannot draw"),
        adapted(pipeline, contents, from_pure_noise=True),
    ):
        pass
    assert all(torch.equal(p, before[name]) for name, p in pipeline.unet.named_parameters())
    assert not any(module._forward_hooks for module in pipeline.unet.modules())


@pytest.mark.parametrize(("setting", "expected"), [(None, False), (False, False), (True, True)])
def test_a_run_tells_whether_it_was_trained_with_zero_terminal_snr(tmp_path, setting, expected):
    folder = RunFolder(tmp_path / "run")
    folder.start(RunSettings.model_validate({"objective": {"zero_terminal_snr": setting}}))
    assert find_ground(folder.path, None).zero_terminal_snr is expected


def test_a_lone_adapter_tells_the_same_by_itself(tiny_model, tmp_path):
    unet = UNet2DConditionModel.from_pretrained(tiny_model, subfolder="unet")
    adapter = attach_adapter(unet, AdapterSettings(rank=2), seed=0)
    for name, given in (("plain", False), ("zero", True)):
        save_adapter(adapter, tmp_path / f"{name}.safetensors", zero_terminal_snr=given)
        ground = find_ground(tmp_path / f"{name}.safetensors", str(tiny_model))
        assert ground.zero_terminal_snr is given


def test_the_best_adapter_of_a_run_is_drawn_on_the_runs_base(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    folder.start(RunSettings(base_model="mini", dataset=DatasetSettings(resolution=64)))
    folder.best_adapter_file.parent.mkdir()
    for named in (folder.best_adapter_file.parent, folder.best_adapter_file):
        ground = find_ground(named, None)
        assert (ground.base_model, ground.resolution) == ("mini", 64)
    monkeypatch.chdir(folder.path)
    assert find_ground(Path("best"), None).base_model == "mini"
    (tmp_path / "run" / "other").mkdir()
    with pytest.raises(AdapterError, match="--base"):
        find_ground(folder.path / "other", None)
