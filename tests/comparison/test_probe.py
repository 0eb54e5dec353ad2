import torch

from rasengan_xl.comparison.probe import measure_peak
from rasengan_xl.config.settings import ComputeSettings
from rasengan_xl.runs.provenance import describe_machine
from rasengan_xl.sdxl.compute import choose_compute


def test_a_probe_names_the_device_that_it_measured():
    compute = choose_compute(ComputeSettings(device="cpu", precision="fp32"))
    probe = measure_peak(compute)
    assert probe.device_name == describe_machine(torch.device("cpu")).device_name != ""
    assert probe.teraflops_per_second > 0
