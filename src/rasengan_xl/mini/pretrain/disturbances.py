"""Small changes to pictures that leave every attribute what it is: shift, blur, light, grain."""

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Generator, Tensor

LARGEST_SHIFT = 2
"""Pixels, in both directions."""
LARGEST_GAIN = 0.06
"""By how much a channel may be brighter or darker; the closest two named colours are further
apart."""
LARGEST_OFFSET = 0.05
LARGEST_GRAIN = 0.06
"""Standard deviation, where a picture spans -1 to 1."""


def disturb(
    pictures: Float[Tensor, "picture 3 height width"], generator: Generator
) -> Float[Tensor, "picture 3 height width"]:
    """Change every picture a little, each in its own way.

    Args:
        pictures: In [-1, 1], on any device.
        generator: Where all chance comes from, on the CPU.
    """
    count, device = len(pictures), pictures.device

    def lots(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator).to(device)

    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    softened = torch.lerp(pictures, blurred, lots(1, 1, 1).square())
    gain = 1 + LARGEST_GAIN * (2 * lots(3, 1, 1) - 1)
    offset = LARGEST_OFFSET * (2 * lots(1, 1, 1) - 1)
    strength = LARGEST_GRAIN * lots(1, 1, 1).square()
    # A generator of the device's own: drawn on the CPU, the grain would take longer than the step.
    seed = int(torch.randint(2**31, (), generator=generator))
    grain = torch.randn(
        pictures.shape, generator=Generator(device).manual_seed(seed), device=device
    )
    return _shift(softened * gain + offset + strength * grain, generator).clamp(-1, 1)


def _shift(pictures: Tensor, generator: Generator) -> Tensor:
    """Move every picture by its own number of pixels, repeating its border."""
    count, channels, height, width = pictures.shape
    shifts = torch.randint(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (2, count, 1), generator=generator)
    rows = (torch.arange(height) + shifts[0]).clamp(0, height - 1).to(pictures.device)
    columns = (torch.arange(width) + shifts[1]).clamp(0, width - 1).to(pictures.device)
    moved = pictures.gather(2, rows[:, None, :, None].expand(count, channels, height, width))
    return moved.gather(3, columns[:, None, None, :].expand(count, channels, height, width))
