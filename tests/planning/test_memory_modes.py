from dataclasses import replace

import pytest
import torch

from rasengan_xl.config.recipe import load_recipe
from rasengan_xl.planning import memory_modes
from rasengan_xl.planning.gpus import GPUS
from rasengan_xl.planning.memory_modes import MARGIN, candidate_modes, choose_memory_mode
from rasengan_xl.planning.model_shape import CUDA, find_shape
from rasengan_xl.sdxl.compute import Compute

GPU = GPUS["T4"]
SETTINGS = load_recipe("mini-lora", ["dataset.resolution=64", "training.batch_size=4"])
ON_GPU = Compute(CUDA, torch.float16)


@pytest.fixture(scope="module")
def modes():
    return list(candidate_modes(SETTINGS, find_shape(SETTINGS), GPU))


@pytest.fixture
def with_gpu(monkeypatch):
    monkeypatch.setattr(memory_modes, "gpu_here", lambda: replace(GPU, name="a test"))


def test_the_fastest_mode_comes_first_and_each_takes_less(modes):
    told = [mode.options.memory for mode in modes]
    assert told == ["keep-all", "recompute-feed-forward", "recompute-all"]
    kept = [mode.needs.kept for mode in modes]
    assert kept == sorted(kept, reverse=True)
    flops = [mode.needs.work.flops for mode in modes]
    assert flops == sorted(flops)


def test_the_first_mode_that_fits_is_chosen_with_a_margin(modes, with_gpu):
    largest = modes[0].card_gib(GPU) / (1 - MARGIN)
    assert choose_memory_mode(SETTINGS, ON_GPU, free_gib=largest * 1.0001) == "keep-all"
    assert choose_memory_mode(SETTINGS, ON_GPU, free_gib=largest * 0.9999) != "keep-all"


def test_if_none_fits_it_is_the_leanest(with_gpu):
    assert choose_memory_mode(SETTINGS, ON_GPU, free_gib=0.01) == "recompute-all"


def test_what_is_asked_for_is_kept_and_a_cpu_keeps_everything():
    asked = memory_modes.with_mode(SETTINGS, "recompute-all")
    assert choose_memory_mode(asked, ON_GPU) == "recompute-all"
    on_cpu = Compute(torch.device("cpu"), torch.float32)
    assert choose_memory_mode(SETTINGS, on_cpu) == "keep-all"


def test_peft_has_two_modes():
    settings = load_recipe("mini-lora", ["engine.implementation=peft", "dataset.resolution=64"])
    found = candidate_modes(settings, find_shape(settings), GPU)
    assert [mode.options.memory for mode in found] == ["keep-all", "recompute-all"]
