# pyright: basic, reportMissingImports=false, reportIndexIssue=false
"""The kernels of GroupNorm, each over a tile of places by channels.

SDXL's groups are 10 to 80 channels wide: sums are kept for each channel, so that tiles need not
end where groups do.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def sum_values(
    pictures, sums, channels, places, channel_stride, place_stride, tiles_each,
    PLACES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Store the mean of a channel's numbers in a program's tiles, and their squared deviations.

    Summed as distances from the first of them, so that no digits are lost where the mean is large.
    """
    program, sample = tl.program_id(0), tl.program_id(2).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    at = pictures + sample * channels * places + channel * channel_stride
    start = program * tiles_each * PLACES
    first = tl.load(at + start * place_stride, mask=channel < channels, other=0.0).to(tl.float32)
    distances = tl.zeros([PLACES, CHANNELS], dtype=tl.float32)
    squares = tl.zeros([PLACES, CHANNELS], dtype=tl.float32)
    for tile in range(tiles_each):
        place = (start + tile * PLACES + tl.arange(0, PLACES))[:, None]
        inside = (place < places) & (channel < channels)[None, :]
        value = tl.load(at[None, :] + place * place_stride, mask=inside, other=0.0)
        distance = tl.where(inside, value.to(tl.float32) - first[None, :], 0.0)
        distances += distance
        squares += distance * distance
    count = tl.minimum(tiles_each * PLACES, places - start).to(tl.float32)
    distance = tl.sum(distances, axis=0)
    squared = tl.sum(squares, axis=0) - distance * distance / count
    to = sums + (sample * tl.num_programs(0) + program) * channels + channel
    half = tl.num_programs(2).to(tl.int64) * tl.num_programs(0) * channels
    tl.store(to, first + distance / count, mask=channel < channels)
    tl.store(to + half, squared, mask=channel < channels)


@triton.jit
@no_type_check
def combine_values(
    sums, shift, mean, reciprocal, channels, places, programs, width, places_each, eps,
    SHIFTED: tl.constexpr, ROOM: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Store mean and reciprocal deviation of a group (Chan et al., 1979, eq. 2.1)."""
    group, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
    inner = tl.arange(0, ROOM)
    channel = group * width + inner
    added = tl.zeros([ROOM], dtype=tl.float32)
    if SHIFTED:
        added += tl.load(shift + sample * channels + channel, mask=inner < width, other=0.0).to(
            tl.float32
        )
    at = sums + sample * programs * channels + channel
    half = tl.num_programs(1).to(tl.int64) * programs * channels
    total = tl.zeros([AT_ONCE, ROOM], dtype=tl.float32)
    for start in range(0, programs, AT_ONCE):
        program = start + tl.arange(0, AT_ONCE)
        count = tl.minimum(places_each, places - program * places_each).to(tl.float32)[:, None]
        inside = (program < programs)[:, None] & (inner < width)[None, :]
        means = tl.load(at[None, :] + program[:, None] * channels, mask=inside, other=0.0)
        total += tl.where(inside, count * (means + added[None, :]), 0.0)
    numbers = width * places
    center = tl.sum(tl.sum(total, axis=0), axis=0) / numbers
    squares = tl.zeros([AT_ONCE, ROOM], dtype=tl.float32)
    for start in range(0, programs, AT_ONCE):
        program = start + tl.arange(0, AT_ONCE)
        count = tl.minimum(places_each, places - program * places_each).to(tl.float32)[:, None]
        inside = (program < programs)[:, None] & (inner < width)[None, :]
        means_at = at[None, :] + program[:, None] * channels
        distance = tl.load(means_at, mask=inside, other=0.0) + added[None, :] - center
        within = tl.load(means_at + half, mask=inside, other=0.0)
        squares += tl.where(inside, within + count * distance * distance, 0.0)
    variance = tl.sum(tl.sum(squares, axis=0), axis=0) / numbers
    to = sample * tl.num_programs(0) + group
    tl.store(mean + to, center)
    tl.store(reciprocal + to, 1.0 / tl.sqrt(variance + eps))


@triton.jit
@no_type_check
def normalize(
    pictures, made, shift, weight, bias, mean, reciprocal,
    channels, places, channel_stride, place_stride, groups,
    SHIFTED: tl.constexpr, ACTIVATED: tl.constexpr, PLACES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Store a tile normalized and activated."""
    sample = tl.program_id(2).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    place = (tl.program_id(0) * PLACES + tl.arange(0, PLACES))[:, None]
    there = channel < channels
    inside = (place < places) & there[None, :]
    at_group = sample * groups + channel // (channels // groups)
    factor = tl.load(reciprocal + at_group, mask=there, other=0.0)
    factor *= tl.load(weight + channel, mask=there, other=0.0).to(tl.float32)
    center = tl.load(mean + at_group, mask=there, other=0.0)
    if SHIFTED:
        center -= tl.load(shift + sample * channels + channel, mask=there, other=0.0).to(tl.float32)
    offset = tl.load(bias + channel, mask=there, other=0.0).to(tl.float32)
    at = sample * channels * places + channel[None, :] * channel_stride + place * place_stride
    value = tl.load(pictures + at, mask=inside, other=0.0).to(tl.float32)
    value = (value - center[None, :]) * factor[None, :] + offset[None, :]
    if ACTIVATED:
        value = value * tl.sigmoid(value)
    tl.store(made + at, value.to(made.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def sum_gradients(
    pictures, gradient, shift, weight, bias, mean, reciprocal, sums,
    channels, places, channel_stride, place_stride, groups, tiles_each,
    SHIFTED: tl.constexpr, ACTIVATED: tl.constexpr, PLACES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Store the sums of a channel's gradients, and of them times normalized values."""
    program, sample = tl.program_id(0), tl.program_id(2).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = channel < channels
    at_group = sample * groups + channel // (channels // groups)
    deviation = tl.load(reciprocal + at_group, mask=there, other=0.0)
    center = tl.load(mean + at_group, mask=there, other=0.0)
    if SHIFTED:
        center -= tl.load(shift + sample * channels + channel, mask=there, other=0.0).to(tl.float32)
    factor = tl.load(weight + channel, mask=there, other=0.0).to(tl.float32)
    offset = tl.load(bias + channel, mask=there, other=0.0).to(tl.float32)
    plain = tl.zeros([PLACES, CHANNELS], dtype=tl.float32)
    weighted = tl.zeros([PLACES, CHANNELS], dtype=tl.float32)
    for tile in range(tiles_each):
        place = ((program * tiles_each + tile) * PLACES + tl.arange(0, PLACES))[:, None]
        inside = (place < places) & there[None, :]
        at = sample * channels * places + channel[None, :] * channel_stride + place * place_stride
        value = tl.load(pictures + at, mask=inside, other=0.0).to(tl.float32)
        normal = (value - center[None, :]) * deviation[None, :]
        upstream = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
        if ACTIVATED:
            entered = normal * factor[None, :] + offset[None, :]
            gate = tl.sigmoid(entered)
            upstream = upstream * gate * (1.0 + entered * (1.0 - gate))
        plain += upstream  # 0 beyond the pictures, where `gradient` is read as 0
        weighted += upstream * normal
    to = sums + (sample * tl.num_programs(0) + program) * channels + channel
    half = tl.num_programs(2).to(tl.int64) * tl.num_programs(0) * channels
    tl.store(to, tl.sum(plain, axis=0), mask=there)
    tl.store(to + half, tl.sum(weighted, axis=0), mask=there)


@triton.jit
@no_type_check
def combine_gradients(
    sums, weight, means, channels, places, programs, width,
    ROOM: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Store a group's mean of gradients, and of them times normalized values."""
    group, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
    inner = tl.arange(0, ROOM)
    at = sums + sample * programs * channels + group * width + inner
    half = tl.num_programs(1).to(tl.int64) * programs * channels
    plain = tl.zeros([AT_ONCE, ROOM], dtype=tl.float32)
    weighted = tl.zeros([AT_ONCE, ROOM], dtype=tl.float32)
    for start in range(0, programs, AT_ONCE):
        program = start + tl.arange(0, AT_ONCE)[:, None]
        inside = (program < programs) & (inner < width)[None, :]
        plain += tl.load(at[None, :] + program * channels, mask=inside, other=0.0)
        weighted += tl.load(at[None, :] + half + program * channels, mask=inside, other=0.0)
    factor = tl.load(weight + group * width + inner, mask=inner < width, other=0.0).to(tl.float32)
    numbers = width * places
    to = means + sample * tl.num_programs(0) + group
    half = tl.num_programs(0) * tl.num_programs(1)
    tl.store(to, tl.sum(tl.sum(plain, axis=0) * factor, axis=0) / numbers)
    tl.store(to + half, tl.sum(tl.sum(weighted, axis=0) * factor, axis=0) / numbers)


@triton.jit
@no_type_check
def return_gradient(
    pictures, gradient, shift, weight, bias, mean, reciprocal, means, made,
    channels, places, channel_stride, place_stride, groups,
    SHIFTED: tl.constexpr, ACTIVATED: tl.constexpr, PLACES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Store the gradient of a tile: what changes neither mean nor deviation of its group."""
    sample = tl.program_id(2).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    place = (tl.program_id(0) * PLACES + tl.arange(0, PLACES))[:, None]
    there = channel < channels
    inside = (place < places) & there[None, :]
    at_group = sample * groups + channel // (channels // groups)
    deviation = tl.load(reciprocal + at_group, mask=there, other=0.0)
    center = tl.load(mean + at_group, mask=there, other=0.0)
    if SHIFTED:
        center -= tl.load(shift + sample * channels + channel, mask=there, other=0.0).to(tl.float32)
    factor = tl.load(weight + channel, mask=there, other=0.0).to(tl.float32)
    offset = tl.load(bias + channel, mask=there, other=0.0).to(tl.float32)
    half = tl.num_programs(2) * groups
    plain = tl.load(means + at_group, mask=there, other=0.0)
    weighted = tl.load(means + half + at_group, mask=there, other=0.0)
    at = sample * channels * places + channel[None, :] * channel_stride + place * place_stride
    value = tl.load(pictures + at, mask=inside, other=0.0).to(tl.float32)
    normal = (value - center[None, :]) * deviation[None, :]
    upstream = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
    if ACTIVATED:
        entered = normal * factor[None, :] + offset[None, :]
        gate = tl.sigmoid(entered)
        upstream = upstream * gate * (1.0 + entered * (1.0 - gate))
    within = upstream * factor[None, :] - plain[None, :] - normal * weighted[None, :]
    within *= deviation[None, :]
    tl.store(made + at, within.to(made.dtype.element_ty), mask=inside)
