"""What each rung of `generate --memory` costs, on an SDXL of full size with random weights.

    python benchmarks/full_size_model.py /tmp/sdxl --pictures 1
    python benchmarks/full_size_rungs.py /tmp/sdxl/model --size 1024

Each rung draws the same prompt in a process of its own, through `rasengan_xl.generate`, with a
random DoRA of rank 16 on every attention layer.  One JSON object a line goes to standard output:
seconds from the first to the last sampler step's end, seconds of everything, peaks of memory, and
how far the picture is from that of the first rung.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image

from rasengan_xl.adapters.reading.peft_metadata import METADATA_KEY
from rasengan_xl.generation import memory
from rasengan_xl.generation import pipeline as pipelines
from rasengan_xl.runs.provenance import name_device
from rasengan_xl.sdxl.layers import list_sdxl_layers
from rasengan_xl.tensor_file import write_tensors

RUNGS = ("full", "low", "lower", "lowest")
SLICED = "low, attention in pieces"
"""To tell what diffusers' attention slicing saves, and costs."""
RANK = 16


def main() -> None:
    """Measure every rung, or the one that a process of its own was started for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rungs", nargs="+", default=[*RUNGS, SLICED])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(draw(arguments)), flush=True)
        return
    with tempfile.TemporaryDirectory() as place:
        write_adapter(Path(place) / "dora.safetensors")
        first: Image.Image | None = None
        for rung in arguments.rungs:
            command = [sys.executable, __file__, str(arguments.model), "--one", rung]
            options = ["--size", arguments.size, "--steps", arguments.steps, "--place", place]
            ended = subprocess.run(
                [*command, *map(str, options)], capture_output=True, text=True, check=False
            )
            if ended.returncode:
                print(json.dumps({"rung": rung, "error": ended.stderr[-500:]}), flush=True)
                continue
            found = json.loads(ended.stdout.strip().splitlines()[-1])
            picture = Image.open(found.pop("picture"))
            first = first or picture
            print(
                json.dumps({**found, "mean_difference_of_255": differ(picture, first)}), flush=True
            )


def draw(arguments: Any) -> dict[str, Any]:
    """Draw with the adapter on one rung, and measure it."""
    import rasengan_xl  # noqa: PLC0415 - what is measured begins here

    rung = arguments.one
    if rung == SLICED:
        cut, rung = memory.cut_into_pieces, "low"

        def cut_attention_too(pipeline: Any, savings: memory.MemorySavings) -> None:
            cut(pipeline, savings)
            pipeline.enable_attention_slicing("max")

        pipelines.cut_into_pieces = cut_attention_too
    started = perf_counter()
    drawn = rasengan_xl.generate(
        [arguments.place / "dora.safetensors"],
        ["a portrait of a ninja"],
        out=arguments.place / arguments.one.replace(" ", "-"),
        base_model=str(arguments.model),
        memory=rung,
        size=arguments.size,
        sampler_steps=arguments.steps,
        with_base=False,
    )
    seconds = perf_counter() - started
    on_cuda = torch.cuda.is_available()
    return {
        "device": name_device(torch.device("cuda" if on_cuda else "cpu")),
        "rung": arguments.one,
        "size": arguments.size,
        "steps": arguments.steps,
        "seconds_with_loading": round(seconds, 1),
        "peak_allocated_gib": gib(torch.cuda.max_memory_allocated()) if on_cuda else None,
        "peak_reserved_gib": gib(torch.cuda.max_memory_reserved()) if on_cuda else None,
        "peak_resident_gib": gib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024),
        "picture": str(drawn.pictures[0].file),
    }


def write_adapter(file: Path) -> None:
    """Write a random DoRA for SDXL in diffusers' form."""
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in list_sdxl_layers().shapes.items():
        if not name.startswith("unet.") or ".attn" not in name:
            continue
        generator = torch.Generator().manual_seed(len(tensors))
        tensors[f"{name}.lora_A.weight"] = torch.randn((RANK, shape[1]), generator=generator)
        up = torch.randn((shape[0], RANK), generator=generator)
        tensors[f"{name}.lora_B.weight"] = up * 0.03 / (3 * shape[1] * RANK) ** 0.5
        tensors[f"{name}.lora_magnitude_vector"] = torch.full((shape[0],), 3**-0.5)
    described = {
        "unet.r": RANK,
        "unet.lora_alpha": RANK,
        "unet.use_dora": True,
        "unet.target_modules": ["to_q", "to_k", "to_v", "to_out.0"],
    }
    write_tensors(file, tensors, {METADATA_KEY: json.dumps(described)})


def differ(picture: Image.Image, other: Image.Image) -> float:
    """Return how far two pictures are apart on average, in steps of a channel."""
    a, b = (np.asarray(each, dtype=np.float32) for each in (picture, other))
    return round(float(np.abs(a - b).mean()), 3)


def gib(size: int) -> float:
    """Turn bytes into GiB."""
    return round(size / 2**30, 2)


if __name__ == "__main__":
    main()
