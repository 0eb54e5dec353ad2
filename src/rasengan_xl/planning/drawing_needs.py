"""How much memory drawing needs, on each rung of the ladder: an estimate, on the safe side."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

from rasengan_xl.sdxl.compute import Compute
from rasengan_xl.sdxl.model_folder import TEXT_ENCODERS, ModelFolder

GIB = 2**30

_MEGAPIXEL = 1024 * 1024
_BYTES_PER_NF4_WEIGHT = 0.53
"""Half a byte, and its share of the block's scale (arXiv:2305.14314, section 3)."""
_LINEAR_SHARE = 0.87
"""Of a UNet's weights: those that NF4 stores in 4 bits, and adapters change."""
_BYTES_PER_UNET_PIXEL = 1_600
"""Of a guided step in 16 bits: an estimate, with fused attention kernels."""
_BYTES_PER_VAE_PIXEL = 6_500
"""Of decoding in float32; 4,400 to 5,600 were measured with SDXL's VAE on a CPU."""
_TILE_SHARE = 0.25
_SPARE_GIB = 0.7
"""For CUDA itself and what the allocator cannot use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """How many weights a model has, by part."""

    unet: int
    text_encoders: int
    vae: int


def measure_model(model: ModelFolder) -> ModelSize:
    """Count a model's weights from the headers of its files, without reading one."""
    return ModelSize(
        unet=_count(model.path / "unet"),
        text_encoders=sum(_count(model.path / part) for part in TEXT_ENCODERS),
        vae=_count(model.path / "vae"),
    )


def needs_of(size: ModelSize, compute: Compute, pixels_at_once: int) -> dict[str, float]:
    """Estimate what each rung needs, in GiB; on a CPU, nothing is offloaded."""
    width = compute.dtype.itemsize
    unet, texts, vae = size.unet * width, size.text_encoders * width, size.vae * 4
    in_4_bits = size.unet * (_LINEAR_SHARE * _BYTES_PER_NF4_WEIGHT + (1 - _LINEAR_SHARE) * width)
    kept = unet * _LINEAR_SHARE  # in main memory: the base's own, beside what adapters changed
    step = pixels_at_once * _BYTES_PER_UNET_PIXEL * width / 2
    # Pictures are decoded one by one, so that a batch needs no more.
    picture = min(pixels_at_once, 2 * _MEGAPIXEL) * _BYTES_PER_VAE_PIXEL
    tile = picture * _TILE_SHARE
    if compute.device.type != "cuda":
        rungs = {
            "full": unet + kept + texts + vae + max(step, picture),
            "low": unet + kept + texts + vae + max(step, tile),
            "lower": in_4_bits + texts + vae + max(step, tile),
        }
    else:
        rungs = {
            "full": unet + texts + vae + max(step, picture),
            "low": max(unet + step, texts, vae + tile),
            "lower": max(in_4_bits + step, texts, vae + tile),
        }
    return {name: needed / GIB + _SPARE_GIB for name, needed in rungs.items()}


def _count(folder: Path) -> int:
    """Count the weights of a part once, though it may lie there in several precisions."""
    counts: dict[str, int] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as content:
            described = json.loads(content.read(int.from_bytes(content.read(8), "little")))
        counts |= {
            name: prod(tensor["shape"]) for name, tensor in described.items() if name[:2] != "__"
        }
    return sum(counts.values())
