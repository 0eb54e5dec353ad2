"""What an adapter costs while drawing, on SDXL's full-size UNet with random weights.

    python benchmarks/full_size_drawing.py --precision bf16 fp16 --size 1024

One pass of the UNet over a picture with guidance (two latents), and whole pictures of 30 such
passes with the sampler between them, by the base, by PEFT's layers, by our change beside each
layer, and by our changed weights; over a base in 16 bits and in fewer.  Each is compared with the
same adapter in float32 as well, so that a figure of speed has its error beside it.  Decoding is
not timed.  One JSON object a line goes to standard output.  PEFT's DoRA knows no int8.  On a CPU
all of it is mini SDXL's, to try the script.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from rasengan_xl.adapters.applying import applied
from rasengan_xl.adapters.attach import attach_adapter
from rasengan_xl.adapters.changes import Decomposed, LowRank
from rasengan_xl.adapters.contents import AdapterContents
from rasengan_xl.config.base_precisions import STORAGES, BasePrecision
from rasengan_xl.config.settings import AdapterSettings
from rasengan_xl.engine.options import EngineOptions
from rasengan_xl.engine.weights import is_plain, read_weight
from rasengan_xl.mini import architecture
from rasengan_xl.runs.provenance import name_device
from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.full_size import build_full_size_unet
from rasengan_xl.sdxl.layers import layer_modules
from rasengan_xl.sdxl.quantization import quantize

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
RELATIVE_CHANGE = 0.03
"""Of a layer's weight by the random adapter, about what a few thousand steps do."""
GUIDANCE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One way of drawing, measured."""

    device: str
    precision: str
    base: str
    adapter: str
    how: str
    milliseconds_median: float
    milliseconds_quartiles: tuple[float, float]
    n: int
    seconds_per_picture: float | None
    """Median of whole pictures, with guidance."""
    steps: int
    """Of a picture."""
    pictures: int
    """That were drawn for the median."""
    peak_memory_gib: float | None
    error: float
    """Of the output, relative to the adapter over the same base in float32."""
    effect: float
    """Of the adapter on the output in float32, relative to the output."""


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", nargs="+", default=["bf16"], choices=DTYPES)
    parser.add_argument("--base", nargs="+", default=["full", "nf4"], choices=STORAGES)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=20, help="passes that are timed")
    parser.add_argument("--steps", type=int, default=30, help="of a picture")
    parser.add_argument("--pictures", type=int, default=3, help="that are timed")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for base in arguments.base:
        for precision in arguments.precision:
            for figure in measure(device, precision, base, arguments):
                print(json.dumps(asdict(figure)), flush=True)


def measure(device: torch.device, precision: str, base: str, arguments: Any) -> Iterator[Figure]:
    """Measure every adapter in every way on one base."""
    dtype = DTYPES[precision]
    given = draw_inputs(device, 2, arguments.size // 8 if device.type == "cuda" else 16)
    for kind in ("base", "lora", "dora"):
        reference, effect = (None, 0.0) if kind == "base" else refer(kind, base, dtype, given)
        for how in ("base",) if kind == "base" else ("peft", "beside", "fused"):
            if how == "fused" and base != "full":
                continue  # weights in fewer bits are not changed
            if (kind, how, base) == ("dora", "peft", "int8"):
                continue  # it would take whole numbers for the weights
            unet = build(device, dtype, base)
            with put_on(unet, kind, how), torch.no_grad():
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                output = run(unet, given, dtype)
                times = time_passes(partial(run, unet, given, dtype), device, arguments.repeats)
                draw = partial(draw_picture, unet, given, dtype, arguments.steps)
                whole = time_passes(draw, device, arguments.pictures) if arguments.pictures else []
            quarters = statistics.quantiles(times, n=4)
            yield Figure(
                device=name_device(device),
                precision=precision,
                base=base,
                adapter=kind,
                how=how,
                milliseconds_median=round(statistics.median(times), 3),
                milliseconds_quartiles=(round(quarters[0], 3), round(quarters[2], 3)),
                n=len(times),
                seconds_per_picture=round(statistics.median(whole) / 1000, 4) if whole else None,
                steps=arguments.steps,
                pictures=len(whole),
                peak_memory_gib=peak_gib(device),
                error=0.0 if reference is None else distance(output, reference),
                effect=effect,
            )
            del unet


def build(device: torch.device, dtype: torch.dtype, base: str) -> UNet2DConditionModel:
    """Build the UNet that every way of drawing starts from."""
    torch.manual_seed(0)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    with device:
        unet = build_full_size_unet() if device.type == "cuda" else architecture.build_unet()
    # Stored in 16 bits, as published weights are: float32 then is the same base, computed better.
    unet = unet.to(dtype).requires_grad_(requires_grad=False).eval()
    quantize(unet, Compute(device, dtype), cast("BasePrecision", base))
    return unet


def refer(
    kind: str, base: str, dtype: torch.dtype, given: dict[str, Tensor]
) -> tuple[Tensor, float]:
    """Compute the output that is meant: the same base weights and adapter, in float32."""
    device = given["sample"].device
    unet = build(device, dtype, base)
    if base != "full":
        unet = dequantized(unet, device, dtype)
    unet = unet.float()
    plain = run(unet, given, torch.float32)
    with applied({"unet": unet}, [random_adapter(unet, kind)], [1.0]):
        meant = run(unet, given, torch.float32)
    return meant, distance(plain, meant)


def dequantized(unet: Any, device: torch.device, dtype: torch.dtype) -> UNet2DConditionModel:
    """Build a UNet in 16 bits whose weights are those of one in fewer."""
    whole = build(device, dtype, "full")
    for name, module in unet.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and not is_plain(module):
            whole.get_submodule(name).weight.data = read_weight(module).to(dtype)
    return whole


def random_adapter(unet: nn.Module, kind: str) -> AdapterContents:
    """Draw an adapter that changes every attention layer by the same share of its weight."""
    changes: dict[str, Any] = {}
    for name, layer in layer_modules({"unet": unet}).items():
        if not name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            continue
        generator = torch.Generator().manual_seed(len(changes))
        down = torch.randn((16, layer.in_features), generator=generator)
        up = torch.randn((layer.out_features, 16), generator=generator)
        # Fresh weights are uniform within 1 / sqrt(inputs): what follows is relative to them.
        size = RELATIVE_CHANGE / (3 * layer.in_features) ** 0.5 / 16**0.5
        change = LowRank(down=down, up=up * size, alpha=16.0)
        if kind == "dora":
            norm = (layer.in_features / (3 * layer.in_features)) ** 0.5
            magnitude = norm * (1 + 0.01 * torch.randn(layer.out_features, generator=generator))
            changes[name] = Decomposed(direction=change, magnitude=magnitude)
        else:
            changes[name] = change
    return AdapterContents(source=Path("random"), form="", changes=changes, header={})


@contextmanager
def put_on(unet: UNet2DConditionModel, kind: str, how: str) -> Iterator[None]:
    """Put the random adapter on a UNet in one of the ways."""
    if how == "base":
        yield
        return
    contents = random_adapter(unet, kind)
    if how == "peft":
        settings = AdapterSettings(rank=16, alpha=16, decompose=kind == "dora")
        attach_adapter(unet, settings, 0, EngineOptions(implementation="peft"))
        fill(unet, contents)
        yield
        return
    with applied({"unet": unet}, [contents], [1.0], fuse=how == "fused"):
        yield


def fill(unet: Any, contents: AdapterContents) -> None:
    """Give PEFT's layers the weights of a random adapter."""
    for name, change in contents.changes.items():
        layer: Any = unet.get_submodule(name.removeprefix("unet."))
        low: Any = change.direction if isinstance(change, Decomposed) else change
        layer.lora_A["default"].weight.data.copy_(low.down)
        layer.lora_B["default"].weight.data.copy_(low.up)
        if isinstance(change, Decomposed):
            layer.lora_magnitude_vector["default"].weight.data.copy_(change.magnitude)


def draw_inputs(device: torch.device, batch: int, side: int) -> dict[str, Tensor]:
    """Draw what the UNet is given: latents, captions, sizes."""
    small = device.type != "cuda"
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    return {
        "sample": draw(batch, 4, side, side),
        "states": draw(batch, 77, 128 if small else 2048),
        "pooled": draw(batch, 64 if small else 1280),
        "sizes": torch.full((batch, 6), 8.0 * side, device=device),
    }


@torch.no_grad()
def run(
    unet: Any, given: dict[str, Tensor], dtype: torch.dtype, timestep: Tensor | None = None
) -> Tensor:
    """Take one pass."""
    device = given["sample"].device.type
    mixed = nullcontext() if dtype is torch.float32 else torch.autocast(device, dtype)
    with mixed:
        return unet(
            given["sample"].to(dtype),
            torch.tensor(500, device=given["sample"].device) if timestep is None else timestep,
            given["states"].to(dtype),
            added_cond_kwargs={
                "text_embeds": given["pooled"].to(dtype),
                "time_ids": given["sizes"],
            },
        ).sample


@torch.no_grad()
def draw_picture(unet: Any, given: dict[str, Tensor], dtype: torch.dtype, steps: int) -> Tensor:
    """Draw a picture's latents by Euler's method, with guidance, from new noise."""
    scheduler = architecture.build_scheduler()
    scheduler.set_timesteps(steps, device=given["sample"].device)
    latents = torch.randn_like(given["sample"][:1]) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(latents, timestep).expand(2, -1, -1, -1)
        plain, guided = run(unet, {**given, "sample": seen}, dtype, timestep).float().chunk(2)
        predicted = plain + GUIDANCE * (guided - plain)
        latents = scheduler.step(predicted, timestep, latents).prev_sample
    return latents


def time_passes(work: Callable[[], Tensor], device: torch.device, repeats: int) -> list[float]:
    """Time passes in milliseconds, after some that are not counted."""
    for _ in range(3):
        work()
    if device.type != "cuda":
        marks = [perf_counter()]
        for _ in range(repeats):
            work()
            marks.append(perf_counter())
        return [1000 * (b - a) for a, b in pairwise(marks)]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) for a, b in pairwise(events)]


def distance(output: Tensor, reference: Tensor) -> float:
    """Return how far an output is from a reference, relative to it."""
    difference = (output.float() - reference.float()).norm() / reference.float().norm()
    return float(f"{float(difference):.3g}")


def peak_gib(device: torch.device) -> float | None:
    """Return the most memory that was allocated while drawing."""
    if device.type != "cuda":
        return None
    return round(torch.cuda.max_memory_allocated() / 2**30, 3)


if __name__ == "__main__":
    main()
