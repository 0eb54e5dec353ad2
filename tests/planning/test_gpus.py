from types import SimpleNamespace

import pytest
import torch

from rasengan_xl.errors import DeviceError
from rasengan_xl.planning.gpus import GPUS, find_gpu, gpu_here, gpu_of_memory


def test_a_gpu_is_found_however_its_name_is_cased():
    assert find_gpu("a100-80gb") is GPUS["A100-80GB"]
    assert find_gpu(" t4 ") is GPUS["T4"]


def test_an_unknown_gpu_is_answered_with_the_closest_and_all_there_are():
    with pytest.raises(DeviceError, match="did you mean 'H100'.*3090, 4090.*--memory-gib") as told:
        find_gpu("h1000")
    assert "\n" not in str(told.value)


def test_a_t4_computes_in_fp16_and_the_others_in_bf16():
    fp16 = [name for name, gpu in GPUS.items() if gpu.dtype is torch.float16]
    assert fp16 == ["T4"]


@pytest.mark.parametrize(
    ("device_name", "major", "gib", "known", "bf16"),
    [
        ("NVIDIA A100-SXM4-80GB", 8, 79.1, 2039, True),
        ("NVIDIA A100-PCIE-40GB", 8, 39.4, 1555, True),
        ("Tesla T4", 7, 14.6, 320, False),
        ("NVIDIA L40S", 8, 44.4, None, True),
    ],
)
def test_this_machines_gpu_is_known_by_its_name(monkeypatch, device_name, major, gib, known, bf16):
    told = SimpleNamespace(name=device_name, major=major, total_memory=int(gib * 2**30))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: told)
    gpu = gpu_here()
    assert (gpu.name, gpu.has_bf16) == (device_name, bf16)
    assert gpu.gigabytes_per_second == known if known else not gpu.speed_is_known


def test_of_a_size_alone_no_speed_is_known():
    gpu = gpu_of_memory(12)
    assert (gpu.memory_gib, gpu.speed_is_known) == (12, False)
