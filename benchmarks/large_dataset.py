"""What a dataset of many pictures costs in memory and time: opening its store, reading steps.

    python benchmarks/large_dataset.py --pictures 100000 --folder /tmp/store

Entries have SDXL's sizes at 512 px (latents in float32, captions in 16 bits) and random
content; the store is kept in the folder and used again.  One JSON object goes to standard output.
"""

import argparse
import json
import time
from pathlib import Path

from random_dataset import Shape, open_pictures, write_store

from rasengan_xl.config.recipe import validate_run
from rasengan_xl.dataset.stream import build_stream
from rasengan_xl.prefetch import prefetch
from rasengan_xl.ranks import ALONE
from rasengan_xl.sdxl.full_size import POOLED_WIDTH, TOKENS, UNET_CONFIG

SHAPE = Shape(
    resolution=512,
    latent_side=64,
    tokens=TOKENS,
    text_width=UNET_CONFIG["cross_attention_dim"],
    pooled_width=POOLED_WIDTH,
)


def resident_gib() -> dict[str, float]:
    """Return the memory that this process holds: its own, and pages of mapped files."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    names = {"own": "RssAnon", "mapped files": "RssFile"}
    return {told: int(fields[name].split()[0]) / 2**20 for told, name in names.items()}


def main() -> None:
    """Write the store if it is not there, read steps from it, and say what that cost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--captions", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--folder", type=Path, required=True)
    told = parser.parse_args()
    before = resident_gib()
    write_store(told.folder, told.pictures, told.captions, SHAPE)
    begun = time.perf_counter()
    pictures = open_pictures(told.folder, told.pictures, told.captions, SHAPE)
    seconds_to_open = time.perf_counter() - begun
    training = {"batch_size": told.batch_size, "accumulation": 1}
    stream = build_stream(pictures, validate_run({"training": training}, "benchmark"), 1000, ALONE)
    begun = time.perf_counter()
    for _ in prefetch(lambda step: stream.part(step, ALONE), range(1, told.steps + 1), ahead=3):
        pass
    seconds = time.perf_counter() - begun
    answer = {
        "pictures": told.pictures,
        "captions": told.captions,
        "seconds_to_open": seconds_to_open,
        "pictures_per_second": told.steps * told.batch_size / seconds,
        "resident_gib_before": before,
        "resident_gib": resident_gib(),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
