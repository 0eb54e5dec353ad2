import pytest
import torch

from rasengan_xl.config.recipe import load_recipe
from rasengan_xl.planning.changes import (
    ENCODE_PICTURES,
    HELD_OUT,
    LOAD_UNET,
    TRAIN,
    CaptionDisk,
    Situation,
    list_changes,
)
from rasengan_xl.planning.model_shape import CUDA, find_shape
from rasengan_xl.planning.savings import find_disk, savings
from rasengan_xl.sdxl.compute import Compute

KEEP_TEXT = "--set engine.cache_text_kv=true"


def changes(
    phase=TRAIN, memory="keep-all", dtype=torch.float16, overrides=(), disk=None, *, on_cuda=True
):
    settings = load_recipe("lora", overrides)
    situation = Situation(settings=settings, memory=memory, on_cuda=on_cuda, dtype=dtype, disk=disk)
    return [change.action for change in list_changes(situation, phase)]


def test_what_costs_least_time_and_quality_comes_first():
    assert changes() == [
        "--set engine.memory=recompute-feed-forward",
        "--set engine.memory=recompute-all",
        "--set training.batch_size=1 --set training.accumulation=4",
        "--set training.optimizer=adamw8bit",
        "--set adapter.base_precision=int8",
        "--set adapter.base_precision=nf4",
        "--set adapter.base_precision=nf4-small",
        "--set dataset.resolution=384",
        "--set adapter.rank=8",
    ]


def test_what_is_in_use_already_is_not_offered():
    spent = ["training.batch_size=1", "training.optimizer=paged_adamw8bit", "adapter.rank=1"]
    spent += ["adapter.base_precision=nf4-small", "dataset.resolution=64"]
    assert changes(memory="recompute-all", overrides=spent) == []


def test_a_base_without_integers_is_offered_without_their_products():
    offered = changes(overrides=["adapter.base_precision=int8", "engine.int8_compute=on"])
    assert "--set adapter.base_precision=nf4 --set engine.int8_compute=off" in offered


def test_peft_has_no_middle_way():
    offered = changes(overrides=["engine.implementation=peft"])
    assert offered[0] == "--set engine.memory=recompute-all"


def test_float32_is_halved_and_a_cpu_pages_no_moments():
    assert "--set compute.precision=bf16" in changes(dtype=torch.float32, on_cuda=False)
    eight_bit = ["training.optimizer=adamw8bit"]
    assert "--set training.optimizer=paged_adamw8bit" in changes(overrides=eight_bit)
    assert "--set training.optimizer=paged_adamw8bit" not in changes(
        overrides=eight_bit, on_cuda=False
    )


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (ENCODE_PICTURES, ["--set dataset.resolution=384"]),
        (LOAD_UNET, [f"--set adapter.base_precision={p}" for p in ("int8", "nf4", "nf4-small")]),
        ("look for the model", []),
    ],
)
def test_each_phase_has_changes_of_its_own(phase, expected):
    assert changes(phase) == expected


def test_a_batch_is_cut_so_that_a_step_is_over_as_many_pictures():
    overrides = ["training.batch_size=6", "training.accumulation=1"]
    wanted = "--set training.batch_size=3 --set training.accumulation=2"
    assert changes(HELD_OUT, overrides=overrides)[0] == wanted


def test_captions_go_to_the_disk_only_if_it_holds_them():
    def room_for(bytes_each, captions):
        return CaptionDisk(bytes_each=bytes_each, free_bytes=10**9, captions=captions)

    assert KEEP_TEXT in changes(disk=room_for(10**6, 900))
    assert KEEP_TEXT not in changes(disk=room_for(10**6, 1100))
    assert room_for(10**6, 900).price == "same result, 0.9 GB of disk"
    assert room_for(10**6, None).price.endswith("1.0 MB of disk a caption: there is room for 1,000")


@pytest.mark.parametrize(
    ("overrides", "is_offered"),
    [
        ([], True),
        (["adapter.decompose=true"], False),
        (["engine.implementation=peft"], False),
        (["engine.batch_text_projections=false"], False),
        (["engine.cache_text_kv=true"], False),
    ],
)
def test_captions_go_to_the_disk_only_where_no_weight_is_needed(overrides, is_offered):
    settings = load_recipe("mini-lora", overrides)
    disk = find_disk(settings, find_shape(settings), Compute(CUDA, torch.float16), 5)
    assert (disk is not None) is is_offered
    assert (KEEP_TEXT in changes(disk=disk)) is is_offered


def test_savings_are_those_of_a_run_that_is_planned_with_the_change():
    settings = load_recipe("mini-lora", ["dataset.resolution=64", "training.batch_size=4"])
    compute = Compute(CUDA, torch.float16)
    found = {
        saving.change.action: saving.saves_gib
        for saving in savings(settings, find_shape(settings), compute, TRAIN, "keep-all")
    }
    leaner = found["--set engine.memory=recompute-feed-forward"]
    assert found["--set engine.memory=recompute-all"] > leaner > 0
    assert all(saved > 0 for saved in found.values())
