"""The compiled inner loops around the matrix products: windows to products, products to results.

Features are (B, D, H, W, C), channels last, so that every inner loop runs over channels. Tiles are
counted in the order batch, rows, columns, depth. All kernels release the interpreter lock.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moda.rendering.compiled import compiled
from moda.rendering.neural.cpu.algorithms import Axes, Stage

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

TERMS = 4
"""Terms of a row that one loop adds up; absent ones have the factor 0."""
BUFFER_FLOATS = 1 << 16
"""Size of a tile's intermediate results, so that a few of them stay in a second-level cache."""
LANES = 16


SparseStage = tuple[I64, F32, I64, int, int, int]
"""A :class:`Stage` without its matrix's zeros, the terms of a row in groups of ``TERMS``: columns
and factors (rows, groups * TERMS), groups (rows,), width, outer, inner."""

Transform = tuple[tuple[SparseStage, SparseStage, SparseStage], Axes]
"""What is done to the numbers of a tile, one stage after the other, and the box of positions of the
features that goes in or comes out"""

Tiling = tuple[Axes, Axes, Axes]
"""Where the windows of tiles lie: numbers of tiles, inputs from one to the next, and inputs of a
window before the tile's own"""


def sparse_stage(stage: Stage) -> SparseStage:
    """The non-zero terms of each row of the matrix."""
    matrix = stage.matrix
    terms = [np.flatnonzero(row) for row in matrix]
    groups = np.array([-(-len(row) // TERMS) for row in terms])
    columns = np.zeros((len(matrix), int(groups.max()) * TERMS), np.int64)
    factors = np.zeros(columns.shape, np.float32)
    for index, row in enumerate(terms):
        columns[index] = row[0]
        columns[index, : len(row)] = row
        factors[index, : len(row)] = matrix[index, row]
    return columns, factors, groups, matrix.shape[1], stage.outer, stage.inner


def sparse_transform(stages: tuple[Stage, Stage, Stage], box: Axes) -> Transform:
    """Stages made ready for the kernels."""
    first, second, third = (sparse_stage(stage) for stage in stages)
    return (first, second, third), box


@compiled
def combine(stage: SparseStage, source: F32, target: F32, channels: int) -> None:
    """``target[o, r, i] = sum_c matrix[r, c] source[o, c, i]``, i over positions and channels.

    Unsigned indices spare the check for negative ones, which would keep the loops from vectors.
    """
    terms, factors, groups, width, outer, inner = stage
    num_rows, length = terms.shape[0], np.uint64(inner * channels)
    for block in range(outer):
        base = np.uint64(block * width) * length
        for row in range(num_rows):
            to = np.uint64(block * num_rows + row) * length
            for group in range(groups[row]):
                first = TERMS * group
                a, b = factors[row, first], factors[row, first + 1]
                c, d = factors[row, first + 2], factors[row, first + 3]
                at_a = base + np.uint64(terms[row, first]) * length
                at_b = base + np.uint64(terms[row, first + 1]) * length
                at_c = base + np.uint64(terms[row, first + 2]) * length
                at_d = base + np.uint64(terms[row, first + 3]) * length
                if group == 0:
                    for i in range(length):
                        target[to + i] = (
                            a * source[at_a + i]
                            + b * source[at_b + i]
                            + c * source[at_c + i]
                            + d * source[at_d + i]
                        )
                else:
                    for i in range(length):
                        target[to + i] += (
                            a * source[at_a + i]
                            + b * source[at_b + i]
                            + c * source[at_c + i]
                            + d * source[at_d + i]
                        )


@compiled
def transformed(transform: Transform, here: F32, there: F32, channels: int) -> F32:
    """Apply all stages to a tile in ``here``; the buffer that has the result."""
    for stage in transform[0]:
        if stage[0].shape[0] * stage[3] > 1:  # more than a single number
            combine(stage, here, there, channels)
            here, there = there, here
    return here


@compiled
def tile_size(transform: Transform) -> int:
    """The largest number of positions that a tile has before, between or after the stages."""
    size = 1
    for columns, _, _, width, outer, inner in transform[0]:
        size = max(size, outer * max(width, columns.shape[0]) * inner)
    return size


@compiled
def channels_at_once(size: int) -> int:
    """How many channels of a tile of ``size`` positions a buffer holds."""
    return max(LANES, BUFFER_FLOATS // size // LANES * LANES)


@compiled
def tile_position(tile: int, counts: Axes) -> tuple[int, int, int, int]:
    """Batch, depth, row and column of a tile."""
    rest, depth = divmod(tile, counts[0])
    rest, column = divmod(rest, counts[2])
    batch, row = divmod(rest, counts[1])
    return batch, depth, row, column


@compiled
def read_window(
    features: F32, batch: int, begin: Axes, size: Axes, channels: tuple[int, int], window: F32
) -> None:
    """Copy a box of positions and of channels (from, to), zeros outside."""
    _, depth, height, width, _ = features.shape
    first, last = channels
    at = 0
    for z in range(begin[0], begin[0] + size[0]):
        for y in range(begin[1], begin[1] + size[1]):
            for x in range(begin[2], begin[2] + size[2]):
                into = window[at : at + last - first]
                if 0 <= z < depth and 0 <= y < height and 0 <= x < width:
                    values = features[batch, z, y, x, first:last]
                    for c in range(last - first):
                        into[c] = values[c]
                else:
                    into[:] = 0
                at += last - first


@compiled
def read_products(products: F32, tile: int, first: int, last: int, into: F32) -> None:
    """Copy a tile's products of the channels first..last."""
    count = last - first
    for product in range(products.shape[0]):
        values = products[product, tile, first:last]
        copied = into[product * count : (product + 1) * count]
        for c in range(count):
            copied[c] = values[c]


@compiled
def transform_inputs(
    features: F32,
    transform: Transform,
    tiling: Tiling,
    first_tile: int,
    first_channel: int,
    products: F32,
) -> None:
    """Fill ``products`` (P, tiles, C) from the windows of some tiles."""
    size = tile_size(transform)
    at_once = channels_at_once(size)
    here, there = np.empty(size * at_once, np.float32), np.empty(size * at_once, np.float32)
    counts, steps, margins = tiling
    num_products, num_tiles, num_channels = products.shape
    for tile in range(num_tiles):
        batch, depth, row, column = tile_position(first_tile + tile, counts)
        begin = (
            depth * steps[0] - margins[0],
            row * steps[1] - margins[1],
            column * steps[2] - margins[2],
        )
        for first in range(0, num_channels, at_once):
            count = min(at_once, num_channels - first)
            channels = first_channel + first, first_channel + first + count
            read_window(features, batch, begin, transform[1], channels, here)
            result = transformed(transform, here, there, count)
            for product in range(num_products):
                values = result[product * count : (product + 1) * count]
                written = products[product, tile, first : first + count]
                for c in range(count):
                    written[c] = values[c]


@compiled
def write_results(
    products: F32,
    transform: Transform,
    counts: Axes,
    first_tile: int,
    bias: F32,
    residual: F32,
    slope: float,
    first_channel: int,
    target: F32,
) -> None:
    """Leaky ReLU of results, bias and residual, into the channels from ``first_channel`` on.

    ``slope`` 1 is linear, 0 a ReLU. A ``residual`` without numbers is none; it may be the target.
    """
    size = tile_size(transform)
    at_once = channels_at_once(size)
    here, there = np.empty(size * at_once, np.float32), np.empty(size * at_once, np.float32)
    _, depth, height, width, _ = target.shape
    results_z, results_y, results_x = transform[1]
    weak = np.float32(slope)
    for tile in range(products.shape[1]):
        batch, tile_z, tile_y, tile_x = tile_position(first_tile + tile, counts)
        z0, y0, x0 = tile_z * results_z, tile_y * results_y, tile_x * results_x
        for first in range(0, bias.shape[1], at_once):
            count = min(at_once, bias.shape[1] - first)
            read_products(products, tile, first, first + count, here)
            results = transformed(transform, here, there, count)
            shift = bias[0, first : first + count]
            to = first_channel + first
            for z in range(min(results_z, depth - z0)):
                for y in range(min(results_y, height - y0)):
                    for x in range(min(results_x, width - x0)):
                        at = ((z * results_y + y) * results_x + x) * count
                        values = results[at : at + count]
                        into = target[batch, z0 + z, y0 + y, x0 + x, to : to + count]
                        if residual.size:
                            beside = residual[batch, z0 + z, y0 + y, x0 + x, to : to + count]
                            for c in range(count):
                                value = values[c] + shift[c] + beside[c]
                                into[c] = max(value, weak * value)
                        else:
                            for c in range(count):
                                value = values[c] + shift[c]
                                into[c] = max(value, weak * value)


@compiled
def write_modulated(
    products: F32,
    transform: Transform,
    counts: Axes,
    first_tile: int,
    bias: F32,
    source: F32,
    statistics: F32,
    slope: float,
    first_channel: int,
    target: F32,
) -> None:
    """Leaky ReLU of ``normalised source * scale + shift``, of which the tiles give the last two.

    ``products`` (P, tiles, N or 2N): scales, then shifts if ``bias`` (1 or 2, N) has any. The
    source (B, 1, H, W, C) is repeated where the target is a multiple of its size; ``statistics``
    (2, B, C) are the factor and the summand that normalise it. Tiles of a plane.
    """
    size = tile_size(transform)
    at_once = channels_at_once(size)
    here, there = np.empty(size * at_once, np.float32), np.empty(size * at_once, np.float32)
    here_2, there_2 = np.zeros(size * at_once, np.float32), np.empty(size * at_once, np.float32)
    num_channels, weak = bias.shape[1], np.float32(slope)
    shifted, biases = bias.shape[0] == 2, np.zeros((2, num_channels), np.float32)
    biases[: bias.shape[0]] = bias
    height, width, factor = target.shape[2], target.shape[3], target.shape[2] // source.shape[2]
    _, results_y, results_x = transform[1]
    for tile in range(products.shape[1]):
        batch, _, tile_y, tile_x = tile_position(first_tile + tile, counts)
        y0, x0 = tile_y * results_y, tile_x * results_x
        for first in range(0, num_channels, at_once):
            last = min(first + at_once, num_channels)
            count = last - first
            read_products(products, tile, first, last, here)
            scales, shifts = transformed(transform, here, there, count), here_2
            if shifted:
                read_products(products, tile, num_channels + first, num_channels + last, here_2)
                shifts = transformed(transform, here_2, there_2, count)
            scale_bias, shift_bias = biases[0, first:last], biases[1, first:last]
            gain = statistics[0, batch, first_channel + first : first_channel + last]
            offset = statistics[1, batch, first_channel + first : first_channel + last]
            for y in range(y0, min(y0 + results_y, height)):
                for x in range(x0, min(x0 + results_x, width)):
                    at = ((y - y0) * results_x + x - x0) * count
                    scale, shift = scales[at : at + count], shifts[at : at + count]
                    begin, end = first_channel + first, first_channel + last
                    values = source[batch, 0, y // factor, x // factor, begin:end]
                    into = target[batch, 0, y, x, begin:end]
                    for c in range(count):
                        value = (values[c] * gain[c] + offset[c]) * (scale[c] + scale_bias[c])
                        value += shift[c] + shift_bias[c]
                        into[c] = max(value, weak * value)


@compiled
def sum_depth_taps(products: F32, depth: int, num_taps: int, sums: F32) -> None:
    """Add up what each tap along the depth gives: (P, tiles, taps * N) -> (P, tiles, N).

    Tiles of the same rows and columns follow each other, ``depth`` of them.
    """
    num_channels = np.uint64(sums.shape[2])
    for product in range(sums.shape[0]):
        values, into = products[product].reshape(-1), sums[product].reshape(-1)
        for tile in range(sums.shape[1]):
            to = np.uint64(tile) * num_channels
            for tap in range(num_taps):
                away = tap - num_taps // 2
                if 0 <= tile % depth + away < depth:
                    begin = np.uint64((tile + away) * num_taps + tap) * num_channels
                    if tap == max(0, num_taps // 2 - tile % depth):
                        for c in range(num_channels):
                            into[to + c] = values[begin + c]
                    else:
                        for c in range(num_channels):
                            into[to + c] += values[begin + c]


@compiled
def normalising_statistics(
    features: F32, first: int, last: int, epsilon: float, statistics: F32
) -> None:
    """Instance norm of channels first..last of a plane (B, 1, H, W, C) as factor and summand.

    ``x * statistics[0] + statistics[1]`` has mean 0 and variance 1; sums are kept in float64.
    """
    batch_size, _, height, width, _ = features.shape
    sums, squares = np.empty(last - first), np.empty(last - first)
    for batch in range(batch_size):
        sums[:] = 0.0
        squares[:] = 0.0
        for y in range(height):
            for x in range(width):
                values = features[batch, 0, y, x, first:last]
                for c in range(last - first):
                    value = np.float64(values[c])
                    sums[c] += value
                    squares[c] += value * value
        for c in range(last - first):
            mean = sums[c] / (height * width)
            variance = squares[c] / (height * width) - mean * mean
            gain = 1.0 / np.sqrt(max(variance, 0.0) + epsilon)
            statistics[0, batch, first + c] = gain
            statistics[1, batch, first + c] = -mean * gain
