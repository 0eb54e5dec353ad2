import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import cpu_offload

from rasengan_xl.adapters.applying import applied
from rasengan_xl.adapters.reading.any_form import read_adapter
from rasengan_xl.config.settings import ComputeSettings
from rasengan_xl.errors import DeviceError
from rasengan_xl.generation import memory
from rasengan_xl.generation.drawing import draw_pictures
from rasengan_xl.generation.memory import RUNGS, MemorySavings, choose_savings, offloaded
from rasengan_xl.generation.pipeline import load_pipeline
from rasengan_xl.generation.requests import Drawing, Request
from rasengan_xl.planning.drawing_needs import ModelSize, measure_model, needs_of
from rasengan_xl.sdxl.compute import Compute, choose_compute
from rasengan_xl.sdxl.layers import list_layers
from rasengan_xl.sdxl.model_folder import find_model

CPU = choose_compute(ComputeSettings(device="cpu"))
T4 = Compute(torch.device("cuda"), torch.float16)
SDXL = ModelSize(unet=2_567_463_684, text_encoders=817_720_320, vae=83_653_863)
MEGAPIXEL = 1024 * 1024
DRAWING = Drawing(size=(64, 64), sampler_steps=2, guidance=4.0, batch_size=1)


def draw(pipeline):
    return np.asarray(next(draw_pictures(pipeline, [Request("a ninja", 0)], DRAWING))).astype(int)


def test_pieces_draw_nearly_the_same_and_four_bits_not_far_from_it(tiny_model, pipeline):
    model = find_model(str(tiny_model))
    usual = draw(pipeline)
    in_pieces = replace(RUNGS["low"], offload="nothing")
    assert np.abs(draw(load_pipeline(model, CPU, in_pieces)) - usual).mean() < 2
    in_4_bits = draw(load_pipeline(model, CPU, MemorySavings(base_precision="nf4")))
    assert 0 < np.abs(in_4_bits - usual).mean() < 20


def test_a_model_is_measured_by_its_headers(tiny_model, pipeline):
    size = measure_model(find_model(str(tiny_model)))
    assert size.unet == sum(p.numel() for p in pipeline.unet.parameters())
    assert size.vae == sum(p.numel() for p in pipeline.vae.parameters())


def test_each_rung_needs_less_than_the_one_before():
    for compute in (T4, CPU):
        needs = list(needs_of(SDXL, compute, MEGAPIXEL).values())
        assert needs == sorted(needs, reverse=True)
        assert needs_of(SDXL, compute, 4 * MEGAPIXEL)["full"] > needs[0]


@pytest.mark.parametrize(
    ("free", "expected"), [(40, "full"), (10, "low"), (5.5, "lower"), (2, "lowest")]
)
def test_auto_takes_the_first_rung_that_fits_and_says_so(monkeypatch, free, expected):
    monkeypatch.setattr(memory, "free_memory_gib", lambda _: free)
    chosen = choose_savings("auto", T4, SDXL, MEGAPIXEL)
    assert chosen.savings == RUNGS[expected]
    assert (f"--memory {expected}: {free:.1f} GiB are free" in chosen.note) == (expected != "full")


def test_without_a_gpu_each_rung_does_what_it_can_and_says_what_not():
    for rung in ("low", "lower", "lowest"):
        chosen = choose_savings(rung, CPU, SDXL, MEGAPIXEL)
        assert chosen.savings.offload == "nothing"
        assert chosen.savings.vae_tiling
        assert "no GPU to offload from" in chosen.note
        assert (chosen.savings.base_precision == "nf4") == (rung != "low")
    assert choose_savings("full", CPU, SDXL, MEGAPIXEL).note == ""


def test_the_free_memory_of_this_machine_is_known():
    assert memory.free_memory_gib(torch.device("cpu")) > 0.01


def test_offloading_without_a_gpu_is_refused(pipeline):
    with (
        pytest.raises(DeviceError, match="there is none"),
        offloaded(pipeline, RUNGS["low"], torch.device("cpu")),
    ):
        pass


def test_strengths_are_those_set_before_the_layers_begin_to_wait(pipeline, lora_run, monkeypatch):
    """As on a GPU, but that the layers come from main memory to main memory."""
    model = find_model(json.loads(lora_run.settings_file.read_text())["base_model"])
    contents = read_adapter(lora_run.adapter_file, list_layers(model))
    base, cpu = draw(pipeline), torch.device("cpu")
    with applied({"unet": pipeline.unet}, [contents], [1.0]):
        full = draw(pipeline)

    def let_layers_wait(device):
        cpu_offload(pipeline.unet, cpu, offload_buffers=True)
        assert pipeline.unet.conv_in.weight.device.type == "meta"

    monkeypatch.setattr(pipeline, "enable_sequential_cpu_offload", let_layers_wait)
    with applied({"unet": pipeline.unet}, [contents], [0.0]) as on:
        for strength, expected in ((1.0, full), (0.0, base), (1.0, full)):
            on.set_strengths([strength])
            with offloaded(pipeline, RUNGS["lowest"], torch.device("cuda")):
                assert np.array_equal(draw(pipeline), expected)
    assert np.array_equal(draw(pipeline), base)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rung", RUNGS)
def test_every_rung_draws_on_a_gpu_with_and_without_adapter(rung, lora_run, tmp_path):
    from rasengan_xl import generate

    drawn = generate(
        lora_run.path, ["a (red:1.2) ninja"], out=tmp_path, memory=rung, strengths=(0, 0.5, 1)
    )
    assert len(drawn.pictures) == 3
