"""The compiled inner loops of the mesh warp.

All kernels are deterministic, release the interpreter lock (so that the encoder's thread runs
meanwhile) and work on arrays that the caller owns.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.rendering.compiled import compiled, part_of_kernel
from moda.rendering.mesh.geometry import ease
from moda.structures import Picture

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

Bounds = tuple[int, int, int, int]
"""Rows and columns of a box: top, bottom, left, right, the second and fourth exclusive."""


class AffineMap(NamedTuple):
    """x = x_x * x + x_y * y + x_1, and y likewise."""

    x_x: float
    x_y: float
    x_1: float
    y_x: float
    y_y: float
    y_1: float


TEXTURE_ZOOM = 2
"""The texture is kept at twice the size of the plate: bilinear sampling then loses no sharpness,
and a warp that moves nothing returns the very pixels of the plate."""
FAR = np.float32(1e9)
EDGE_JUMP_PX = 4.0
"""Neighbouring pixels that come from places this far apart lie on two sides of a fold."""
SAMPLES_PER_SIDE = 4
MAX_EDGE_PIXELS = 12000
TILE = 8


class WarpBuffers(NamedTuple):
    """Scratch arrays of one box (h, w), reused from frame to frame; they carry no state."""

    map_x: F32  # (h, w) texels
    map_y: F32
    depth: F32
    slot: I32
    """(h, w) index of an edge pixel in the supersampling arrays, -1 elsewhere"""
    tiles: NDArray[np.bool_]
    """Whether a tile of ``TILE`` x ``TILE`` pixels has any edge pixel"""
    identity_x: F32
    identity_y: F32
    sample_depth: F32  # (MAX_EDGE_PIXELS, samples)
    sample_map: F32  # (MAX_EDGE_PIXELS, samples, 2)
    edge_pixels: I32  # (MAX_EDGE_PIXELS, 2) y, x
    fixed_map: NDArray[np.int16]  # (h, w, 2)
    fraction_map: NDArray[np.uint16]  # (h, w)


def make_buffers(height: int, width: int) -> WarpBuffers:
    """Allocate the scratch arrays for a box."""
    shape = (height, width)
    identity_y, identity_x = np.mgrid[0:height, 0:width].astype(np.float32) * TEXTURE_ZOOM
    samples = SAMPLES_PER_SIDE**2
    return WarpBuffers(
        map_x=np.empty(shape, np.float32),
        map_y=np.empty(shape, np.float32),
        depth=np.empty(shape, np.float32),
        slot=np.full(shape, -1, np.int32),
        tiles=np.zeros((height // TILE + 1, width // TILE + 1), np.bool_),
        identity_x=np.ascontiguousarray(identity_x),
        identity_y=np.ascontiguousarray(identity_y),
        sample_depth=np.empty((MAX_EDGE_PIXELS, samples), np.float32),
        sample_map=np.empty((MAX_EDGE_PIXELS, samples, 2), np.float32),
        edge_pixels=np.empty((MAX_EDGE_PIXELS, 2), np.int32),
        fixed_map=np.empty((height, width, 2), np.int16),
        fraction_map=np.empty(shape, np.uint16),
    )


def enlarge_texture(picture: Picture) -> Picture:
    """Texture of ``TEXTURE_ZOOM`` times the size whose even texels are the picture's pixels."""
    height, width = picture.shape[:2]
    zoom = np.array([[TEXTURE_ZOOM, 0, 0], [0, TEXTURE_ZOOM, 0]], np.float64)
    large = cv2.warpAffine(
        picture,
        zoom,
        (width * TEXTURE_ZOOM, height * TEXTURE_ZOOM),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    ).astype(np.uint8, copy=False)
    large[::TEXTURE_ZOOM, ::TEXTURE_ZOOM] = picture
    return np.ascontiguousarray(large)


def warp_texture(
    texture: Picture,
    screen: F32,
    texels: F32,
    triangles: I32,
    folding: Bounds,
    buffers: WarpBuffers,
) -> Picture:
    """Draw a textured mesh over its own rest picture; returns the new box (h, w, 3).

    ``screen`` (V, 3) pixels of the box and depth, ``texels`` (V, 2), ``triangles`` (N, 3).
    Pixels that no triangle covers show the rest picture. Outlines are smoothed within
    ``folding``, the part of the box where the mesh may lie over itself.
    """
    np.copyto(buffers.map_x, buffers.identity_x)
    np.copyto(buffers.map_y, buffers.identity_y)
    buffers.depth.fill(FAR)
    rasterize(screen, texels, triangles, buffers.map_x, buffers.map_y, buffers.depth)
    cv2.convertMaps(
        buffers.map_x,
        buffers.map_y,
        cv2.CV_16SC2,
        dstmap1=buffers.fixed_map,
        dstmap2=buffers.fraction_map,
    )
    drawn = last_warp(texture, buffers)
    count = find_edges(
        buffers.map_x,
        buffers.map_y,
        EDGE_JUMP_PX * TEXTURE_ZOOM,
        folding,
        buffers.slot,
        buffers.tiles,
        buffers.edge_pixels,
    )
    if count:
        samples = buffers.sample_depth[:count]
        sample_map, edge_pixels = buffers.sample_map[:count], buffers.edge_pixels[:count]
        samples.fill(FAR)
        scatter_samples(screen, texels, triangles, buffers.slot, buffers.tiles, samples, sample_map)
        gather_samples(edge_pixels, samples, sample_map, drawn, texture)
        rows, columns = edge_pixels.T
        buffers.slot[rows, columns] = -1
        buffers.tiles[rows // TILE, columns // TILE] = False
    return drawn


def last_warp(texture: Picture, buffers: WarpBuffers) -> Picture:
    """Another texture, drawn as :func:`warp_texture` has just drawn its own; edges not smoothed.

    Hair that the picture's edge cuts is continued by its mirror image: repeated pixels are stripes.
    """
    return cv2.remap(
        texture,
        buffers.fixed_map,
        buffers.fraction_map,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    ).astype(np.uint8, copy=False)


compiled_ease = part_of_kernel(ease)


@part_of_kernel
def reach(slope: float) -> float:
    """1 / slope, finite: a flat weight then bounds a row nowhere, or excludes all of it."""
    return 1.0 / slope if abs(slope) > 1e-12 else -1e12


def bounds_around(points: F32, margin: float, height: int, width: int) -> Bounds:
    """Whole pixels of a box (height, width) around points (N, >=2) with a margin."""
    low = np.floor(points[:, :2].min(0) - margin)
    high = np.ceil(points[:, :2].max(0) + margin) + 1
    return (
        max(0, int(low[1])),
        min(height, int(high[1])),
        max(0, int(low[0])),
        min(width, int(high[0])),
    )


@compiled
def rasterize(screen: F32, texels: F32, triangles: I32, map_x: F32, map_y: F32, depth: F32) -> None:
    """Write where each pixel comes from, nearest triangle first; row by row, exact spans.

    Barycentric weights are affine in x, so that the pixels of a row inside a triangle are one
    interval, found without testing each pixel.
    """
    height, width = map_x.shape
    slack = 1e-3
    for index in range(triangles.shape[0]):
        a, b, c = triangles[index, 0], triangles[index, 1], triangles[index, 2]
        ax, ay = np.float64(screen[a, 0]), np.float64(screen[a, 1])
        bx, by = screen[b, 0] - ax, screen[b, 1] - ay
        cx, cy = screen[c, 0] - ax, screen[c, 1] - ay
        area = bx * cy - cx * by
        if abs(area) < 1e-6:
            continue
        first_row = max(0, int(np.ceil(ay + min(0.0, by, cy) - 0.01)))
        last_row = min(height - 1, int(np.floor(ay + max(0.0, by, cy) + 0.01)))
        low_x, high_x = ax + min(0.0, bx, cx) - 0.01, ax + max(0.0, bx, cx) + 0.01
        if high_x < 0 or low_x > width - 1:
            continue
        b_x, b_y, c_x, c_y = cy / area, -cx / area, -by / area, bx / area
        u0, v0, z0 = texels[a, 0], texels[a, 1], screen[a, 2]
        u_b, v_b, z_b = texels[b, 0] - u0, texels[b, 1] - v0, screen[b, 2] - z0
        u_c, v_c, z_c = texels[c, 0] - u0, texels[c, 1] - v0, screen[c, 2] - z0
        u_x, v_x, z_x = b_x * u_b + c_x * u_c, b_x * v_b + c_x * v_c, b_x * z_b + c_x * z_c
        a_x, a_y = -b_x - c_x, -b_y - c_y
        reach_a, reach_b, reach_c = reach(a_x), reach(b_x), reach(c_x)
        for y in range(first_row, last_row + 1):
            at_b, at_c = (y - ay) * b_y, (y - ay) * c_y
            end_a = -(1.0 + slack + (y - ay) * a_y) * reach_a
            end_b, end_c = -(at_b + slack) * reach_b, -(at_c + slack) * reach_c
            left, right = low_x - ax, high_x - ax
            if a_x > 0:
                left = max(left, end_a)
            else:
                right = min(right, end_a)
            if b_x > 0:
                left = max(left, end_b)
            else:
                right = min(right, end_b)
            if c_x > 0:
                left = max(left, end_c)
            else:
                right = min(right, end_c)
            first = max(0, int(np.ceil(left + ax)))
            last = min(width - 1, int(np.floor(right + ax)))
            offset = first - ax
            u = u0 + at_b * u_b + at_c * u_c + offset * u_x
            v = v0 + at_b * v_b + at_c * v_c + offset * v_x
            z = z0 + at_b * z_b + at_c * z_c + offset * z_x
            for x in range(first, last + 1):
                step = x - first
                here = np.float32(z + step * z_x)
                if here < depth[y, x]:
                    depth[y, x] = here
                    map_x[y, x] = u + step * u_x
                    map_y[y, x] = v + step * v_x


@compiled
def find_edges(
    map_x: F32,
    map_y: F32,
    jump: float,
    bounds: Bounds,
    slot: I32,
    tiles: NDArray[np.bool_],
    edge_pixels: I32,
) -> int:
    """List the pixels beside a jump of the map; returns how many."""
    height, width = map_x.shape
    count = 0
    limit = np.float32(jump)
    step = np.float32(2 * TEXTURE_ZOOM)
    for y in range(max(1, bounds[0]), min(height - 1, bounds[1])):
        for x in range(max(1, bounds[2]), min(width - 1, bounds[3])):
            if (
                abs(map_x[y, x + 1] - map_x[y, x - 1] - step) > limit
                or abs(map_y[y + 1, x] - map_y[y - 1, x] - step) > limit
                or abs(map_x[y + 1, x] - map_x[y - 1, x]) > limit
                or abs(map_y[y, x + 1] - map_y[y, x - 1]) > limit
            ):
                slot[y, x] = count
                tiles[y // TILE, x // TILE] = True
                edge_pixels[count, 0] = y
                edge_pixels[count, 1] = x
                count += 1
                if count == edge_pixels.shape[0]:
                    return count
    return count


@part_of_kernel
def any_tile(
    tiles: NDArray[np.bool_], first_row: int, last_row: int, first_column: int, last_column: int
) -> bool:
    """Whether there is an edge pixel in the tiles of a box of pixels, which are all inclusive."""
    for row in range(first_row // TILE, last_row // TILE + 1):
        for column in range(first_column // TILE, last_column // TILE + 1):
            if tiles[row, column]:
                return True
    return False


@compiled
def scatter_samples(
    screen: F32,
    texels: F32,
    triangles: I32,
    slot: I32,
    tiles: NDArray[np.bool_],
    sample_depth: F32,
    sample_map: F32,
) -> None:
    """Nearest triangle for each subsample of each edge pixel."""
    height, width = slot.shape
    for index in range(triangles.shape[0]):
        a, b, c = triangles[index, 0], triangles[index, 1], triangles[index, 2]
        ax, ay = np.float64(screen[a, 0]), np.float64(screen[a, 1])
        bx, by = screen[b, 0] - ax, screen[b, 1] - ay
        cx, cy = screen[c, 0] - ax, screen[c, 1] - ay
        area = bx * cy - cx * by
        if abs(area) < 1e-6:
            continue
        first_row = max(0, int(np.ceil(ay + min(0.0, by, cy) - 0.5)))
        last_row = min(height - 1, int(np.floor(ay + max(0.0, by, cy) + 0.5)))
        first_column = max(0, int(np.ceil(ax + min(0.0, bx, cx) - 0.5)))
        last_column = min(width - 1, int(np.floor(ax + max(0.0, bx, cx) + 0.5)))
        if first_row > last_row or first_column > last_column:
            continue
        if not any_tile(tiles, first_row, last_row, first_column, last_column):
            continue
        for y in range(first_row, last_row + 1):
            for x in range(first_column, last_column + 1):
                pixel = slot[y, x]
                if pixel < 0:
                    continue
                for k in range(SAMPLES_PER_SIDE * SAMPLES_PER_SIDE):
                    dx = x + (k % SAMPLES_PER_SIDE + 0.5) / SAMPLES_PER_SIDE - 0.5 - ax
                    dy = y + (k // SAMPLES_PER_SIDE + 0.5) / SAMPLES_PER_SIDE - 0.5 - ay
                    of_b, of_c = (dx * cy - cx * dy) / area, (bx * dy - dx * by) / area
                    if of_b < -1e-4 or of_c < -1e-4 or of_b + of_c > 1.0001:
                        continue
                    of_a = 1.0 - of_b - of_c
                    z = of_a * screen[a, 2] + of_b * screen[b, 2] + of_c * screen[c, 2]
                    if z < sample_depth[pixel, k]:
                        sample_depth[pixel, k] = z
                        for axis in range(2):
                            sample_map[pixel, k, axis] = (
                                of_a * texels[a, axis]
                                + of_b * texels[b, axis]
                                + of_c * texels[c, axis]
                            )


@compiled
def gather_samples(
    edge_pixels: I32, sample_depth: F32, sample_map: F32, drawn: Picture, texture: Picture
) -> None:
    """Mean colour of the subsamples that hit the mesh."""
    height, width = texture.shape[:2]
    for pixel in range(edge_pixels.shape[0]):
        red, green, blue, hits = 0.0, 0.0, 0.0, 0
        for k in range(sample_depth.shape[1]):
            if sample_depth[pixel, k] >= FAR:
                continue
            u = min(max(sample_map[pixel, k, 0], 0.0), width - 1.001)
            v = min(max(sample_map[pixel, k, 1], 0.0), height - 1.001)
            x, y = int(u), int(v)
            right, down = u - x, v - y
            w00, w01 = (1 - right) * (1 - down), right * (1 - down)
            w10, w11 = (1 - right) * down, right * down
            p, q, r, s = texture[y, x], texture[y, x + 1], texture[y + 1, x], texture[y + 1, x + 1]
            red += w00 * p[0] + w01 * q[0] + w10 * r[0] + w11 * s[0]
            green += w00 * p[1] + w01 * q[1] + w10 * r[1] + w11 * s[1]
            blue += w00 * p[2] + w01 * q[2] + w10 * r[2] + w11 * s[2]
            hits += 1
        if hits:
            at_y, at_x = edge_pixels[pixel, 0], edge_pixels[pixel, 1]
            drawn[at_y, at_x, 0] = int(red / hits + 0.5)
            drawn[at_y, at_x, 1] = int(green / hits + 0.5)
            drawn[at_y, at_x, 2] = int(blue / hits + 0.5)


@compiled
def keep_edge_lengths(
    points: NDArray[np.float64],
    rest: NDArray[np.float64],
    edges: I32,
    mobility: NDArray[np.float64],
    minimum: float,
    sweeps: int,
    strength: float,
) -> None:
    """Push points (V, >=2) apart, in place, where an edge would fold over.

    An edge keeps at least ``minimum`` of its rest length along its rest direction. ``mobility``
    (V,) is 0 for points that stay and 1 for points that give way.
    """
    for _ in range(sweeps):
        for index in range(edges.shape[0]):
            a, b = edges[index, 0], edges[index, 1]
            total = mobility[a] + mobility[b]
            if total == 0.0:
                continue
            dx, dy = rest[b, 0] - rest[a, 0], rest[b, 1] - rest[a, 1]
            length = np.sqrt(dx * dx + dy * dy) + 1e-9
            dx, dy = dx / length, dy / length
            along = (points[b, 0] - points[a, 0]) * dx + (points[b, 1] - points[a, 1]) * dy
            if along < minimum * length:
                push = (minimum * length - along) * strength / total
                points[a, 0] -= push * mobility[a] * dx
                points[a, 1] -= push * mobility[a] * dy
                points[b, 0] += push * mobility[b] * dx
                points[b, 1] += push * mobility[b] * dy


@compiled
def keep_triangle_areas(
    points: NDArray[np.float64],
    rest: NDArray[np.float64],
    triangles: I32,
    mobility: NDArray[np.float64],
    minimum: float,
    sweeps: int,
    moved: NDArray[np.int64],
) -> None:
    """Move points (V, >=2), in place, until no triangle is turned over.

    ``moved`` (V,) is scratch that begins with zeros: when a point was last moved, counted in
    triangles looked at. A triangle that needed nothing is passed over until a point of it moves.

    Each triangle keeps at least ``minimum`` of its signed rest area: a constraint projection along
    the gradient of the area, as in position-based dynamics (Mueller et al., 2007, equation 9).
    """
    now = 0
    for sweep in range(sweeps):
        worked = False
        for index in range(triangles.shape[0]):
            now += 1
            a, b, c = triangles[index, 0], triangles[index, 1], triangles[index, 2]
            last_look = now - triangles.shape[0]
            if sweep > 0 and max(moved[a], moved[b], moved[c]) < last_look:
                continue
            wanted = (rest[b, 0] - rest[a, 0]) * (rest[c, 1] - rest[a, 1])
            wanted -= (rest[c, 0] - rest[a, 0]) * (rest[b, 1] - rest[a, 1])
            bx, by = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1]
            cx, cy = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1]
            lacking = minimum * wanted - (bx * cy - cx * by)
            if lacking * wanted <= 0:
                continue
            opposite_a = (bx - cx) ** 2 + (by - cy) ** 2
            reach_of_all = (
                mobility[a] * opposite_a
                + mobility[b] * (cx * cx + cy * cy)
                + mobility[c] * (bx * bx + by * by)
            )
            if reach_of_all < 1e-12:
                continue
            worked = True
            moved[a] = moved[b] = moved[c] = now
            step = 1.05 * lacking / reach_of_all
            points[a, 0] += step * mobility[a] * (by - cy)
            points[a, 1] += step * mobility[a] * (cx - bx)
            points[b, 0] += step * mobility[b] * cy
            points[b, 1] -= step * mobility[b] * cx
            points[c, 0] -= step * mobility[c] * by
            points[c, 1] += step * mobility[c] * bx
        if not worked:
            return
