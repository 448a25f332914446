"""The compiled inner loops of the dense motion, on channels-last volumes (D, H, W, C).

Most kernels work on the depths ``first`` to ``last`` of one frame, so that threads can share a
frame. All release the interpreter lock.
"""

from __future__ import annotations

import numpy as np

from moda.rendering.compiled import compiled
from moda.rendering.neural.cpu.kernels import F32, I64

Shifts = tuple[I64, F32]
"""Where the voxels of each axis (x, y, z) come from when everything is shifted, K times: the voxel
before (K, 3, longest axis), -1 for the border, and the weight of the voxel after, 0..1"""


@compiled
def propose(
    compressed: F32,
    shifts: Shifts,
    heat: F32,
    resting_heat: F32,
    first_channel: int,
    first: int,
    last: int,
    proposals: F32,
) -> None:
    """Heat map and shifted volume (D, H, W, C) of every key point, 1 + C channels each.

    ``heat`` (K, 3, longest axis) is the Gaussian around each key point, axis by axis;
    ``resting_heat`` (K, D, H, W) is subtracted from their product. Shifting is separable: rows are
    mixed once and then sampled.
    """
    lower_voxel, upper_weight = shifts
    depth, height, width, channels = compressed.shape
    mixed = np.empty((width + 2, channels), np.float32)  # a zero at both ends
    for point in range(lower_voxel.shape[0]):
        at = first_channel + point * (1 + channels)
        for z in range(first, last):
            for y in range(height):
                mixed[:] = 0
                for neighbour in range(4):
                    upper_z, upper_y = neighbour // 2, neighbour % 2
                    from_z = lower_voxel[point, 2, z] + upper_z
                    from_y = lower_voxel[point, 1, y] + upper_y
                    if 0 <= from_z < depth and 0 <= from_y < height:
                        weight_z = upper_weight[point, 2, z]
                        weight_y = upper_weight[point, 1, y]
                        weight = weight_z if upper_z else np.float32(1) - weight_z
                        weight *= weight_y if upper_y else np.float32(1) - weight_y
                        for x in range(width):
                            for c in range(channels):
                                mixed[x + 1, c] += weight * compressed[from_z, from_y, x, c]
                plane_heat = heat[point, 2, z] * heat[point, 1, y]
                for x in range(width):
                    change = plane_heat * heat[point, 0, x] - resting_heat[point, z, y, x]
                    proposals[z, y, x, at] = change
                    weight = upper_weight[point, 0, x]
                    lower = lower_voxel[point, 0, x] + 1
                    for c in range(channels):
                        value = (np.float32(1) - weight) * mixed[lower, c]
                        proposals[z, y, x, at + 1 + c] = value + weight * mixed[lower + 1, c]


@compiled
def halve(plane: F32, first_channel: int, target: F32) -> None:
    """Means of 2x2 positions of a plane (H, W, C), into channels from ``first_channel`` on."""
    for y in range(target.shape[0]):
        for x in range(target.shape[1]):
            a, b = plane[2 * y, 2 * x], plane[2 * y, 2 * x + 1]
            c, d = plane[2 * y + 1, 2 * x], plane[2 * y + 1, 2 * x + 1]
            into = target[y, x, first_channel : first_channel + plane.shape[2]]
            for i in range(plane.shape[2]):
                into[i] = np.float32(0.25) * ((a[i] + b[i]) + (c[i] + d[i]))


@compiled
def deform(logits: F32, shifts: F32, grid: F32, first: int, last: int, deformation: F32) -> None:
    """Positions moved by the mean shift, softmax of the logits (D, H, W, 1 + K) being the weights.

    The first logit is that of no shift; ``shifts`` (K, 3), positions (D, H, W, 3).
    """
    _, height, width, count = logits.shape
    weights = np.empty(count, np.float32)
    for z in range(first, last):
        for y in range(height):
            for x in range(width):
                largest, total = logits[z, y, x].max(), np.float32(0)
                for k in range(count):
                    weights[k] = np.exp(logits[z, y, x, k] - largest)
                    total += weights[k]
                for axis in range(3):
                    moved = np.float32(0)
                    for k in range(1, count):
                        moved += weights[k] * shifts[k - 1, axis]
                    deformation[z, y, x, axis] = grid[z, y, x, axis] + moved / total


@compiled
def sample(volume: F32, positions: F32, first: int, last: int, target: F32) -> None:
    """Linear samples of a volume (D, H, W, C) into a plane (H, W, D * C), depth by depth.

    Zero outside. Positions (D, H, W, 3) are x, y, z, the outer faces of the volume being -1 and 1.
    """
    depth, height, width, channels = volume.shape
    half, one = np.float32(0.5), np.float32(1)
    for z in range(first, last):
        for y in range(height):
            for x in range(width):
                at_x = ((positions[z, y, x, 0] + one) * np.float32(width) - one) * half
                at_y = ((positions[z, y, x, 1] + one) * np.float32(height) - one) * half
                at_z = ((positions[z, y, x, 2] + one) * np.float32(depth) - one) * half
                low_x, low_y, low_z = np.floor(at_x), np.floor(at_y), np.floor(at_z)
                into = target[y, x, z * channels : (z + 1) * channels]
                into[:] = 0
                for corner in range(8):
                    up_z, up_y, up_x = corner // 4, corner // 2 % 2, corner % 2
                    from_z, from_y, from_x = int(low_z) + up_z, int(low_y) + up_y, int(low_x) + up_x
                    if 0 <= from_z < depth and 0 <= from_y < height and 0 <= from_x < width:
                        weight = at_z - low_z if up_z else one - (at_z - low_z)
                        weight *= at_y - low_y if up_y else one - (at_y - low_y)
                        weight *= at_x - low_x if up_x else one - (at_x - low_x)
                        values = volume[from_z, from_y, from_x]
                        for c in range(channels):
                            into[c] += weight * values[c]


@compiled
def add_taps(taps: F32, size: int, bias: float, target: F32) -> None:
    """What ``size`` x ``size`` taps give at each position (H, W, taps), moved into place and added.

    Result (H, W): a correlation with zeros outside.
    """
    height, width = target.shape
    margin = size // 2
    target[:] = bias
    for y in range(height):
        for x in range(width):
            for tap in range(size * size):
                to_y, to_x = y + margin - tap // size, x + margin - tap % size
                if 0 <= to_y < height and 0 <= to_x < width:
                    target[to_y, to_x] += taps[y, x, tap]
