"""How near our kernels in Triton come to the GPU's memory rate, beside PyTorch's own.

    python benchmarks/pointwise_kernels.py --batch-size 1 8

At the shapes of SDXL at 1024 px (GroupNorm, GEGLU, DoRA's gain; forward and backward), in 16 bits.
Each is timed in a CUDA graph that goes through more copies of its tensors than the GPU's cache
holds; values are checked against PyTorch's in the same run.  `gigabytes_per_second` counts each
large input and output once, however often a kernel reads it; `share_of_copy` is that over the
rate of a copy on the same GPU.  One JSON object a line goes to standard output.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from itertools import product
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rasengan_xl.engine.group_norm import Normalized
from rasengan_xl.engine.kernels.availability import has_kernels, load_kernels

BEYOND_CACHE_BYTES = 256 * 2**20
MOST_COPIES = 32
REPLAYS = 20
PICTURES = ((320, 128), (640, 64), (960, 128), (1280, 32), (1920, 64), (2560, 32))
"""Channels, and places a side."""
GATED = ((4096, 2560), (1024, 5120))
"""Tokens of one picture, and hidden values of its feed-forward layers."""
SCALED = ((4096, 640), (1024, 1280), (4096, 5120))
LAYOUTS = {"channels": torch.contiguous_format, "channels last": torch.channels_last}
CLOSE = 0.05
"""Largest difference between two ways of computing, as a share of the numbers' spread."""


class Trial(NamedTuple):
    """One kernel at one shape: what it reads, who computes it, and what must be moved."""

    name: str
    inputs: tuple[Tensor, ...]
    ours: Callable[..., Tensor]
    theirs: Callable[..., Tensor]
    least_bytes: int


@torch.no_grad()
def main() -> None:
    """Time every kernel at every shape."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    if not (torch.cuda.is_available() and has_kernels(torch.empty(1, dtype=dtype, device="cuda"))):
        parser.error(f"a GPU on which Triton computes in {arguments.dtype} is needed")
    torch.manual_seed(0)
    copy_rate = measure_copy_rate()
    print(json.dumps({"gpu": torch.cuda.get_device_name(), "copy_gigabytes_per_second": copy_rate}))
    for batch_size in arguments.batch_size:
        for trial in list_trials(batch_size, dtype):
            for way in ("ours", "theirs"):
                figures = {"batch_size": batch_size} | measure(trial, way, copy_rate)
                print(json.dumps(figures), flush=True)


def measure_copy_rate() -> float:
    """Return the bytes that a large copy reads and writes, in GB/s."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    seconds = time_graph(lambda: target.copy_(source), 1)
    return round(2 * source.nbytes / seconds / 1e9, 1)


def measure(trial: Trial, way: str, copy_rate: float) -> dict[str, Any]:
    """Time one way of computing, and compare it with the other."""
    compute = getattr(trial, way)
    copies = min(max(2, BEYOND_CACHE_BYTES // trial.least_bytes + 1), MOST_COPIES)
    inputs = [tuple(map(torch.clone, trial.inputs)) for _ in range(copies)]
    rate = trial.least_bytes / time_graph(lambda: [compute(*given) for given in inputs], copies)
    ours = trial.ours(*map(torch.clone, trial.inputs)).float()
    theirs = trial.theirs(*map(torch.clone, trial.inputs)).float()
    difference = ((ours - theirs).square().mean() / theirs.square().mean()).sqrt().item()
    return {
        "kernel": trial.name,
        "shape": list(trial.inputs[0].shape),
        "way": {"ours": "triton", "theirs": "pytorch"}[way],
        "microseconds": round(trial.least_bytes / rate * 1e6, 2),
        "gigabytes_per_second": round(rate / 1e9, 1),
        "share_of_copy": round(rate / 1e9 / copy_rate, 3),
        "relative_difference": difference,
        "agrees": difference < CLOSE,
    }


def time_graph(work: Callable[[], Any], repeats: int) -> float:
    """Return the median seconds of one of several repeats that a graph holds."""
    work()  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    graph.replay()
    seconds = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3 / repeats)
    return median(seconds)


def list_trials(batch_size: int, dtype: torch.dtype) -> Iterator[Trial]:
    """Make the tensors of one trial after another."""
    for (channels, side), (layout, order) in product(PICTURES, LAYOUTS.items()):
        shape = (batch_size, channels, side, side)
        pictures, upstream = (
            torch.randn(shape, device="cuda").to(dtype, memory_format=order) for _ in range(2)
        )
        yield from norm_trials(pictures, upstream, layout)
    for tokens, hidden in GATED:
        projected = torch.randn(batch_size * tokens, 2 * hidden, device="cuda").to(dtype)
        yield from geglu_trials(projected, torch.randn_like(projected[:, hidden:]))
    for tokens, width in SCALED:
        scaled = torch.randn(batch_size * tokens, width, device="cuda").to(dtype)
        gain = 1 + 0.01 * torch.randn(width, device="cuda")
        yield from gain_trials(scaled, torch.randn_like(scaled), gain)


def norm_trials(pictures: Tensor, upstream: Tensor, layout: str) -> Iterator[Trial]:
    """GroupNorm and SiLU after a shift of each channel, as a block of convolutions has them."""
    kernels: Any = load_kernels("group_norm")
    samples, channels, height, width = pictures.shape
    norm = nn.GroupNorm(32, channels, device="cuda", dtype=pictures.dtype)
    shift = torch.randn(samples, channels, device="cuda", dtype=pictures.dtype)
    sizes = (samples, channels, height * width, 32)

    def theirs(pictures: Tensor, shift: Tensor) -> Tensor:
        return F.silu(norm(pictures + shift[:, :, None, None]))

    yield Trial(
        f"group norm, {layout}",
        (pictures, shift),
        lambda pictures, shift: kernels.forward(pictures, shift, norm, activate=True)[0],
        theirs,
        2 * pictures.nbytes,
    )
    kept = kernels.forward(pictures, None, norm, activate=True)[1:]
    normalized, *statistics = torch.native_group_norm(
        pictures.contiguous(), norm.weight, norm.bias, *sizes, norm.eps
    )

    def back(upstream: Tensor, pictures: Tensor, normalized: Tensor) -> Tensor:
        gradient = torch.ops.aten.silu_backward(upstream, normalized)
        return torch.ops.aten.native_group_norm_backward(
            gradient.contiguous(), pictures.contiguous(), *statistics, norm.weight, *sizes,
            [True, False, False],
        )[0]  # fmt: skip

    def our_back(upstream: Tensor, pictures: Tensor, _: Tensor) -> Tensor:
        return kernels.backward(upstream, Normalized(pictures, *kept), None, norm, activate=True)

    inputs = (upstream, pictures, normalized)
    name = f"group norm backward, {layout}"
    yield Trial(name, inputs, our_back, back, 3 * pictures.nbytes)


def geglu_trials(projected: Tensor, upstream: Tensor) -> Iterator[Trial]:
    """GEGLU as diffusers writes it."""
    kernels: Any = load_kernels("geglu")

    def theirs(projected: Tensor) -> Tensor:
        value, gate = projected.chunk(2, dim=-1)
        return value * F.gelu(gate)

    def back(upstream: Tensor, projected: Tensor) -> Tensor:
        value, gate = projected.chunk(2, dim=-1)
        of_gate = torch.ops.aten.gelu_backward(upstream * value, gate)
        return torch.cat([upstream * F.gelu(gate), of_gate], dim=-1)

    yield Trial("geglu", (projected,), kernels.forward, theirs, projected.nbytes * 3 // 2)
    yield Trial(
        "geglu backward",
        (upstream, projected),
        lambda upstream, projected: kernels.backward_(projected, upstream),
        back,
        upstream.nbytes + 2 * projected.nbytes,
    )


def gain_trials(scaled: Tensor, upstream: Tensor, gain: Tensor) -> Iterator[Trial]:
    """DoRA's gain as it is multiplied in, and both gradients of it."""
    kernels: Any = load_kernels("gain")

    def apply(product: Tensor, gain: Tensor) -> Tensor:
        kernels.apply_(product, gain, None)
        return product

    def back(upstream: Tensor, scaled: Tensor, gain: Tensor) -> Tensor:
        torch.div((upstream.float() * scaled).sum(dim=0), gain)
        return (upstream * gain).to(upstream.dtype)

    def our_back(upstream: Tensor, scaled: Tensor, gain: Tensor) -> Tensor:
        return kernels.backward(upstream, scaled, gain, None)[0]

    yield Trial("gain", (scaled, gain), apply, lambda p, gain: p.mul_(gain), 2 * scaled.nbytes)
    inputs = (upstream, scaled, gain)
    yield Trial("gain backward", inputs, our_back, back, 3 * scaled.nbytes)


if __name__ == "__main__":
    main()
