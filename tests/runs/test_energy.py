import importlib.machinery
import sys
import types
from types import SimpleNamespace

import pytest
import torch

from rasengan_xl.runs.energy import EnergyMeter


class NVMLError(Exception):
    pass


@pytest.fixture
def meter(monkeypatch):
    """Build a meter of a GPU whose counter gives these readings; an exception is a fault."""

    def build(*readings):
        left = [0, *readings]  # the first is read to see whether there is a counter

        def read(handle):
            reading = left.pop(0)
            if isinstance(reading, Exception):
                raise reading
            return reading

        module = types.ModuleType("pynvml")
        module.__spec__ = importlib.machinery.ModuleSpec("pynvml", None)
        module.NVMLError = NVMLError
        module.nvmlInit = lambda: None
        module.nvmlDeviceGetHandleByUUID = lambda name: name
        module.nvmlDeviceGetTotalEnergyConsumption = read
        monkeypatch.setitem(sys.modules, "pynvml", module)
        properties = SimpleNamespace(uuid="1234")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        return EnergyMeter(torch.device("cuda"))

    return build


def test_energy_is_the_difference_of_two_readings_in_joules(meter):
    counting = meter(5_000, 12_500)
    counting.start()
    assert counting.joules() == 7.5


@pytest.mark.parametrize("when", ["start", "end"])
def test_a_fault_in_the_middle_ends_counting_and_nothing_else(meter, when):
    fault = NVMLError("GPU is lost")
    counting = meter(*([fault] if when == "start" else [5_000, fault]))
    for _ in range(2):  # whose later readings would be an IndexError
        counting.start()
        assert counting.joules() is None


def test_a_cpu_has_no_counter():
    counting = EnergyMeter(torch.device("cpu"))
    counting.start()
    assert counting.joules() is None
