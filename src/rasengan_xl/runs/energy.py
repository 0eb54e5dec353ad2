"""The energy that a GPU takes, where NVML (the extra `energy`) tells it."""

import importlib
import importlib.util
import logging
from collections.abc import Callable
from typing import Any, cast

import torch

logger = logging.getLogger(__name__)

_MILLIJOULES_PER_JOULE = 1000


class EnergyMeter:
    """Counts the energy of one GPU; says nothing on a CPU, without pynvml, or before Volta.

    Once the GPU no longer tells, it says nothing either: training goes on.
    """

    def __init__(self, device: torch.device) -> None:
        self._read = _open_counter(device) if device.type == "cuda" else None
        self._started: int | None = None

    def start(self) -> None:
        """Begin to count."""
        self._started = self._look()

    def joules(self) -> float | None:
        """Return the energy since the start; None where it is not told."""
        now = self._look()
        if now is None or self._started is None:
            return None
        return (now - self._started) / _MILLIJOULES_PER_JOULE

    def _look(self) -> int | None:
        if self._read is None:
            return None
        try:
            return self._read()
        except Exception as fault:  # NVML has many; none of them is worth a run
            logger.warning("energy is not measured from here: %s", fault)
            self._read = None
            return None


def _open_counter(device: torch.device) -> Callable[[], int] | None:
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
