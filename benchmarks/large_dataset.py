"""What a dataset of many pictures costs in memory and time: opening its store, reading steps.

    python benchmarks/large_dataset.py --pictures 100000 --folder /tmp/store

Entries have SDXL's sizes at 512 px (latents in float32, captions in 16 bits) and random content; the store is
kept in the folder and used again.  One JSON object goes to standard output.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from rasengan_xl.config.recipe import validate_run
from rasengan_xl.dataset.encoded import EncodedCrop, EncodedPicture, EncodedPictures
from rasengan_xl.dataset.prefetch import prefetch
from rasengan_xl.dataset.store import ShardWriter, TensorStore
from rasengan_xl.dataset.stream import build_stream
from rasengan_xl.ranks import ALONE
from rasengan_xl.sdxl.full_size import POOLED_WIDTH, TOKENS, UNET_CONFIG
from rasengan_xl.sdxl.prompts import PromptStates

SIDE = 512
LATENT_SIDE = SIDE // 8
TEXT_WIDTH = UNET_CONFIG["cross_attention_dim"]


def write_store(folder: Path, pictures: int) -> None:
    """Write random entries, unless they are there."""
    latents, prompts = ShardWriter(folder / "latents"), ShardWriter(folder / "prompts")
    for row in range(pictures):
        mean = torch.randn(4, LATENT_SIDE, LATENT_SIDE)
        latents.add(f"{row}", {"mean": mean, "deviation": mean.abs()})
        states = torch.randn(TOKENS, TEXT_WIDTH, dtype=torch.bfloat16)
        prompts.add(f"{row}", {"states": states, "pooled": states[0, :POOLED_WIDTH]})
    latents.close()
    prompts.close()


def open_pictures(folder: Path, pictures: int) -> EncodedPictures:
    """Open the stores as a run does."""
    latents = TensorStore(folder / "latents", ("mean", "deviation"))
    prompts = TensorStore(folder / "prompts", ("states", "pooled"))
    latents.open()
    prompts.open()
    numbers = (SIDE, SIDE, 0, 0, SIDE, SIDE)
    return EncodedPictures(
        pictures=[
            EncodedPicture(
                name=f"{row}.png",
                digest=f"{row:064d}",
                crops=(EncodedCrop(f"{row}", numbers),),
                wordings=(f"{row}",),
            )
            for row in range(pictures)
        ],
        latents=latents,
        prompts=prompts,
        null_prompt=PromptStates(
            states=torch.zeros(1, TOKENS, TEXT_WIDTH, dtype=torch.bfloat16),
            pooled=torch.zeros(1, POOLED_WIDTH, dtype=torch.bfloat16),
        ),
        scaling_factor=0.13025,
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
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--folder", type=Path, required=True)
    told = parser.parse_args()
    before = resident_gib()
    if not (told.folder / "latents").exists():
        write_store(told.folder, told.pictures)
    begun = time.perf_counter()
    pictures = open_pictures(told.folder, told.pictures)
    seconds_to_open = time.perf_counter() - begun
    training = {"batch_size": told.batch_size, "accumulation": 1}
    stream = build_stream(pictures, validate_run({"training": training}, "benchmark"), 1000, ALONE)
    begun = time.perf_counter()
    for _ in prefetch(lambda step: stream.part(step, ALONE), range(1, told.steps + 1), ahead=3):
        pass
    seconds = time.perf_counter() - begun
    answer = {
        "pictures": told.pictures,
        "seconds_to_open": seconds_to_open,
        "pictures_per_second": told.steps * told.batch_size / seconds,
        "resident_gib_before": before,
        "resident_gib": resident_gib(),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
