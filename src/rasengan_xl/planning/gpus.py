"""What the GPUs that people rent or own can do at best, from their makers' data sheets."""

import re
from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from rasengan_xl.config.wording import closest
from rasengan_xl.errors import DeviceError

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class GPU:
    """A kind of GPU."""

    name: str
    memory_gib: float
    """As `torch.cuda.get_device_properties` tells it: what is left of the nominal size."""
    teraflops: float
    """Dense 16-bit matrix products with sums in float32, per second."""
    gigabytes_per_second: float
    """Memory bandwidth."""
    speed_is_known: bool = True
    has_bf16: bool = True
    launch_microseconds: float = 45.0
    """Of the host for one of our operations, launched by itself: measured beside one H200, where
    217 ms went by for 4,704, and 34 each for those of PEFT; hosts differ."""
    context_gib: float = 0.45
    """What CUDA and the kernels loaded take of the card beside PyTorch's allocator: an estimate."""
    workspace_mib: float = 16.25
    """cuBLAS's, for the forward and the backward thread (aten/src/ATen/cuda/CublasHandlePool.cpp:
    8.125 MiB each, 32 on Hopper)."""

    @property
    def dtype(self) -> torch.dtype:
        """Return what `compute.precision = "auto"` is on it."""
        return torch.bfloat16 if self.has_bf16 else torch.float16


GPUS = {
    gpu.name: gpu
    for gpu in (
        # NVIDIA T4 data sheet: 65 TFLOP/s, 320 GB/s, 16 GB of which ECC keeps some; cloud hosts.
        GPU(
            name="T4",
            memory_gib=14.6,
            teraflops=65,
            gigabytes_per_second=320,
            has_bf16=False,
            context_gib=0.3,
        ),
        # NVIDIA L4 data sheet: 242 TFLOP/s with sparsity, 300 GB/s, 24 GB.
        GPU(
            name="L4",
            memory_gib=22.0,
            teraflops=121,
            gigabytes_per_second=300,
        ),
        # NVIDIA Ampere GA102 whitepaper, table 9: 71 TFLOP/s, 936 GB/s.
        GPU(name="3090", memory_gib=23.6, teraflops=71, gigabytes_per_second=936),
        # NVIDIA Ada GPU architecture whitepaper, table 2: 165.2 TFLOP/s, 1008 GB/s.
        GPU(name="4090", memory_gib=23.5, teraflops=165.2, gigabytes_per_second=1008),
        # NVIDIA A100 data sheet: 312 TFLOP/s; 40 GB with 1555 GB/s, 80 GB with 2039 GB/s.
        GPU(name="A100", memory_gib=39.4, teraflops=312, gigabytes_per_second=1555),
        GPU(name="A100-80GB", memory_gib=79.1, teraflops=312, gigabytes_per_second=2039),
        # NVIDIA H100 and H200 data sheets (SXM): 1,979 TFLOP/s with sparsity; 3.35 and 4.8 TB/s.
        GPU(
            name="H100",
            memory_gib=79.1,
            teraflops=989,
            gigabytes_per_second=3350,
            workspace_mib=64,
            context_gib=0.55,
        ),
        GPU(
            name="H200",
            memory_gib=139.7,
            teraflops=989,
            gigabytes_per_second=4800,
            workspace_mib=64,
            context_gib=0.55,
        ),
    )
}


def find_gpu(name: str) -> GPU:
    """Return a GPU by its name, however it is cased.

    Raises:
        DeviceError: The table has none of that name.
    """
    for gpu in GPUS.values():
        if gpu.name.lower() == name.strip().lower():
            return gpu
    raise DeviceError(
        f"--gpu {name}: not in the table{closest(name.upper(), list(GPUS))}; there are "
        f"{', '.join(GPUS)}; for another, give its memory: --memory-gib 12"
    )


def gpu_of_memory(memory_gib: float) -> GPU:
    """Return a GPU of which only the memory is known."""
    return replace(
        GPUS["T4"],
        name=f"GPU of {memory_gib:g} GiB",
        memory_gib=memory_gib,
        context_gib=max(gpu.context_gib for gpu in GPUS.values()),
        speed_is_known=False,
    )


def gpu_here() -> GPU | None:
    """Return this machine's first GPU; None if it has none.

    Of one that the table has not, the speed is not known before something was measured on it.
    """
    if not torch.cuda.is_available():
        return None
    properties: Any = cast("Any", torch.cuda).get_device_properties(0)
    total = properties.total_memory / GIB
    named = [gpu for gpu in GPUS.values() if _is_called(gpu, properties.name)]
    like = min(named or GPUS.values(), key=lambda gpu: abs(gpu.memory_gib - total))
    return GPU(
        name=properties.name,
        memory_gib=total,
        teraflops=like.teraflops,
        gigabytes_per_second=like.gigabytes_per_second,
        speed_is_known=bool(named),
        has_bf16=properties.major >= 8,
        launch_microseconds=like.launch_microseconds,
        context_gib=like.context_gib,
        workspace_mib=64 if properties.major == 9 else 16.25,
    )


def _is_called(gpu: GPU, device_name: str) -> bool:
    """Tell whether a device's name is of a kind of GPU: an L40S is no L4."""
    kind = gpu.name.split("-")[0]
    return re.search(rf"\b{kind}\b", device_name) is not None
