"""On what a run was made: machine, versions, commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import torch

from rasengan_xl.runs.records import Machine

PACKAGES = (
    "rasengan-xl",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "bitsandbytes",
    "datasets",
    "safetensors",
)


def describe_machine(device: torch.device, processes: int = 1) -> Machine:
    """Collect what the figures of a run on so many processes depend on."""
    on_cuda = device.type == "cuda"
    cuda = cast("Any", torch.cuda)
    properties = cuda.get_device_properties(device) if on_cuda else None
    return Machine(
        device=device.type,
        device_name=name_device(device),
        processes=processes,
        device_memory_gib=round(properties.total_memory / 2**30, 1) if properties else None,
        cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        platform=platform.platform(),
        python=platform.python_version(),
        packages={name: found for name in PACKAGES if (found := _version_of(name))},
        commit=_commit(),
    )


def name_device(device: torch.device) -> str:
    """Say which GPU, or which processor, a device is."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _processor_name()


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the checkout this file lies in, or None when it is installed."""
    here = Path(__file__).parent
    if not any((parent / ".git").exists() for parent in here.parents):
        return None
    try:
        answer = subprocess.run(
            ("git", "rev-parse", "HEAD"),
            cwd=here,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None
