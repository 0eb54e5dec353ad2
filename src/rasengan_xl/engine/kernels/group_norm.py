# pyright: basic, reportMissingImports=false, reportIndexIssue=false
"""GroupNorm, SiLU after it, and their gradient, over pictures in either order.

A pass over the pictures for what each group sums up to, and one that computes; between them a
small kernel adds up what programs summed, in an order that only the sizes decide.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor, nn

from rasengan_xl.engine.group_norm import Normalized
from rasengan_xl.engine.kernels import group_norm_tiles as tiles

NUMBERS_IN_TILE = 4096
CHANNELS_BY_PLACE = 64
"""Of a tile of pictures ordered by place: 128 bytes in 16 bits, and a divisor of SDXL's widths."""
PLACES_BY_CHANNEL = 512
"""Of a tile of pictures ordered by channel, if there are so many."""
ENOUGH_PROGRAMS = 2048
"""Several for each multiprocessor of the largest GPUs; beyond them each takes more tiles."""
MOST_TILES = 16
FORWARD_WARPS, BACKWARD_WARPS, COMBINING_WARPS = 4, 8, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """How programs divide pictures among them."""

    samples: int
    channels: int
    places: int
    channel_stride: int
    place_stride: int
    tile_places: int
    tile_channels: int

    @property
    def grid(self) -> tuple[int, int, int]:
        """Return the tiles of places, of channels, and the samples."""
        place_tiles = triton.cdiv(self.places, self.tile_places)
        return place_tiles, triton.cdiv(self.channels, self.tile_channels), self.samples

    @property
    def tiles_each(self) -> int:
        """Return how many tiles of places a program sums up."""
        place_tiles, channel_tiles, samples = self.grid
        enough = place_tiles * channel_tiles * samples // ENOUGH_PROGRAMS
        return min(max(1, enough), MOST_TILES)

    @property
    def summing_grid(self) -> tuple[int, int, int]:
        """Return the grid of programs that sum up."""
        place_tiles, channel_tiles, samples = self.grid
        return triton.cdiv(place_tiles, self.tiles_each), channel_tiles, samples

    @property
    def lengths(self) -> tuple[int, int, int, int]:
        """Return what every kernel asks for to find its numbers."""
        return self.channels, self.places, self.channel_stride, self.place_stride

    @property
    def tile(self) -> dict[str, int]:
        """Return the sizes of a tile, which kernels are compiled for."""
        return {"PLACES": self.tile_places, "CHANNELS": self.tile_channels}


def forward(
    pictures: Tensor, shift: Tensor | None, norm: nn.GroupNorm, *, activate: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pictures, their mean and their reciprocal deviation."""
    tiling = lay_out(pictures)
    made, sums = torch.empty_like(pictures), _room_for_sums(tiling, pictures)
    mean = torch.empty(tiling.samples, norm.num_groups, dtype=torch.float32, device=pictures.device)
    reciprocal = torch.empty_like(mean)
    tiles.sum_values[tiling.summing_grid](
        pictures, sums, *tiling.lengths, tiling.tiles_each, **tiling.tile, num_warps=FORWARD_WARPS
    )
    tiles.combine_values[norm.num_groups, tiling.samples](
        sums, _or(shift, pictures), mean, reciprocal, *_sizes_of_sums(tiling, norm),
        tiling.tile_places * tiling.tiles_each, norm.eps, SHIFTED=shift is not None,
        **_tile_of_sums(tiling, norm),
    )  # fmt: skip
    tiles.normalize[tiling.grid](
        pictures, made, _or(shift, pictures), norm.weight, norm.bias, mean, reciprocal,
        *tiling.lengths, norm.num_groups, SHIFTED=shift is not None, ACTIVATED=activate,
        **tiling.tile, num_warps=FORWARD_WARPS,
    )  # fmt: skip
    return made, mean, reciprocal


def backward(
    gradient: Tensor, kept: Normalized, shift: Tensor | None, norm: nn.GroupNorm, *, activate: bool
) -> Tensor:
    """Return the gradient of the pictures; `gradient` is ordered as they are."""
    pictures, mean, reciprocal = kept
    tiling = lay_out(pictures)
    made, sums = torch.empty_like(pictures), _room_for_sums(tiling, pictures)
    means = torch.empty(2, *mean.shape, dtype=torch.float32, device=pictures.device)
    read = (_or(shift, pictures), norm.weight, norm.bias, mean, reciprocal)
    how = {"SHIFTED": shift is not None, "ACTIVATED": activate, "num_warps": BACKWARD_WARPS}
    tiles.sum_gradients[tiling.summing_grid](
        pictures, gradient, *read, sums, *tiling.lengths, norm.num_groups, tiling.tiles_each,
        **tiling.tile, **how,
    )  # fmt: skip
    tiles.combine_gradients[norm.num_groups, tiling.samples](
        sums, norm.weight, means, *_sizes_of_sums(tiling, norm), **_tile_of_sums(tiling, norm)
    )
    tiles.return_gradient[tiling.grid](
        pictures, gradient, *read, means, made, *tiling.lengths, norm.num_groups,
        **tiling.tile, **how,
    )  # fmt: skip
    return made


def lay_out(pictures: Tensor) -> Tiling:
    """Choose tiles whose numbers lie side by side in memory."""
    samples, channels, height, width = pictures.shape
    places = height * width
    by_channel = pictures.is_contiguous()
    tile_places = NUMBERS_IN_TILE // CHANNELS_BY_PLACE
    if by_channel:
        tile_places = max(tile_places, min(PLACES_BY_CHANNEL, triton.next_power_of_2(places)))
    return Tiling(
        samples=samples,
        channels=channels,
        places=places,
        channel_stride=places if by_channel else 1,
        place_stride=1 if by_channel else channels,
        tile_places=tile_places,
        tile_channels=NUMBERS_IN_TILE // tile_places,
    )


def _or(shift: Tensor | None, pictures: Tensor) -> Tensor:
    """Return an address to pass where there is no shift; it is not read."""
    return pictures if shift is None else shift.contiguous()


def _room_for_sums(tiling: Tiling, pictures: Tensor) -> Tensor:
    """Return room for two sums of each program and channel."""
    programs = tiling.summing_grid[0]
    shape = (2, tiling.samples, programs, tiling.channels)
    return torch.empty(shape, dtype=torch.float32, device=pictures.device)


def _sizes_of_sums(tiling: Tiling, norm: nn.GroupNorm) -> tuple[int, int, int, int]:
    width = tiling.channels // norm.num_groups
    return tiling.channels, tiling.places, tiling.summing_grid[0], width


def _tile_of_sums(tiling: Tiling, norm: nn.GroupNorm) -> dict[str, int]:
    room = triton.next_power_of_2(tiling.channels // norm.num_groups)
    at_once = max(1, NUMBERS_IN_TILE // room)
    return {"ROOM": room, "AT_ONCE": at_once, "num_warps": COMBINING_WARPS}
