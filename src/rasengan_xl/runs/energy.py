"""The energy that a GPU takes, where NVML (the extra `energy`) tells it."""

import importlib
import importlib.util
import logging
from typing import Any, cast

import torch

logger = logging.getLogger(__name__)

_MILLIJOULES_PER_JOULE = 1000


class EnergyMeter:
    """Counts the energy of one GPU; says nothing on a CPU, without pynvml, or before Volta."""

    def __init__(self, device: torch.device) -> None:
        self._read = _open_counter(device) if device.type == "cuda" else None
        self._started = 0

    def start(self) -> None:
        """Begin to count."""
        if self._read is not None:
            self._started = self._read()

    def joules(self) -> float | None:
        """Return the energy since the start; None where it is not told."""
        if self._read is None:
            return None
        return (self._read() - self._started) / _MILLIJOULES_PER_JOULE


def _open_counter(device: torch.device) -> Any:
    """Return a function that reads the GPU's counter, in millijoules; None: there is none."""
    if importlib.util.find_spec("pynvml") is None:
        return None
    nvml: Any = importlib.import_module("pynvml")
    properties = cast("Any", torch.cuda).get_device_properties(device)
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}")
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError as fault:
        logger.info("energy is not measured: %s", fault)
        return None
    return lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
