"""What a UNet is shown: random latents, captions and noise, new ones in every step."""

import torch

from benchmarks.random_dataset import Shape
from benchmarks.training_step.arms import Arm
from rasengan_xl.mini import architecture
from rasengan_xl.sdxl.full_size import POOLED_WIDTH, TOKENS, UNET_CONFIG
from rasengan_xl.sdxl.objective import LatentBatch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
CHECKED_SIDE = {"full": 32, "mini": 16}
"""Side of the latents on which gradients are compared."""


def is_mini(arm: Arm) -> bool:
    """Whether an arm trains mini SDXL's UNet, which a CPU can do."""
    return arm.resolution == 64


def shape_of(arm: Arm) -> Shape:
    """Return the sizes of what the arm's UNet is shown."""
    small = is_mini(arm)
    return Shape(
        resolution=arm.resolution,
        latent_side=arm.resolution // (4 if small else 8),
        tokens=TOKENS,
        text_width=2 * architecture.TEXT_WIDTH if small else UNET_CONFIG["cross_attention_dim"],
        pooled_width=architecture.TEXT_WIDTH if small else POOLED_WIDTH,
        dtype=DTYPES[arm.precision],
    )


def draw_batch(shape: Shape, side: int, batch_size: int, seed: int) -> LatentBatch:
    """Draw a batch on the CPU, where a GPU can fetch it while it works."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(batch_size, *sizes, generator=generator)

    size = (shape.resolution, shape.resolution, 0, 0, shape.resolution, shape.resolution)
    width = shape.key_value_width
    batch = LatentBatch(
        latents=normal(4, side, side),
        noise=normal(4, side, side),
        timesteps=torch.randint(0, 1000, (batch_size,), generator=generator),
        prompts=normal(shape.tokens, shape.text_width).to(shape.dtype),
        pooled_prompts=normal(shape.pooled_width).to(shape.dtype),
        size_numbers=torch.tensor([size] * batch_size),
        key_values=normal(shape.tokens, width).to(shape.dtype) if width else None,
    )
    return batch.pinned() if torch.cuda.is_available() else batch


def meta_batch(shape: Shape, batch_size: int) -> LatentBatch:
    """Return a batch without values, to count on."""
    return draw_batch(shape, shape.latent_side, batch_size, seed=0).to(torch.device("meta"))
