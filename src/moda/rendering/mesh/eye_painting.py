"""The compiled inner loop that paints an eye: lid skin, eyeball, lashes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.rendering.compiled import compiled, part_of_kernel
from moda.rendering.mesh.warp import AffineMap, Bounds
from moda.rendering.mesh.warp import compiled_ease as ease
from moda.structures import Picture
from moda.structures.landmarks import Array

F32 = NDArray[np.float32]

LASH_LENGTH = 0.075
"""Height of the band above the lid's edge that counts as lashes; eye distances, as all here."""
LASH_ROWS, LASH_COLUMNS = 24, 64
LASH_OVERHANG = 0.12
"""The lash map goes on beyond the corners by this share of the eye's width."""
LINE_WIDTH = 0.013
CURVE_SAMPLES = 65
LID_SHADOW_LENGTH = 0.035
CLOSING_SHADOW, WIDE_SHADOW = 0.4, 0.55
"""Share of light that the upper lid takes from the ball beside it: of a closing eye, and of one
that opens wider than in the photograph, whose own shadow is then too low."""


class EyeLayers(NamedTuple):
    """Pictures of one eye over its region of interest (h, w) in texels, as float32 0..255."""

    sclera: F32  # (h, w, 3)
    iris: F32
    """(h, w, 4): what to add over the sclera, and how much of the sclera it hides"""
    lid: F32  # (h, w, 3) skin without lashes
    lashes: F32
    """(LASH_ROWS, LASH_COLUMNS, 3) share of light left by the lashes, from the lid's edge up"""
    line: F32  # (LASH_COLUMNS, 3) the same on the very edge


class EyeFrame(NamedTuple):
    """One eye in one frame: numbers for the kernel, pixels of the box."""

    origin_x: float
    origin_y: float
    axis_x: float
    axis_y: float
    width: float
    upper: F32  # (CURVE_SAMPLES,) height of the lid lines along the axis from corner to corner
    lower: F32
    unit: float
    closing: float
    """Way of the upper lid: 0 as photographed, 1 closed, negative open wider"""
    outward: float
    """-1 where the outer corner is the first one, else 1"""
    ball_from_box: AffineMap  # pixels of the box -> texels of the layers
    gaze_x: float  # texels
    gaze_y: float
    roi_x: float
    """Texels of the box at which the layers begin"""
    roi_y: float


SKIN, BALL, IRIS, LASH, LIGHT, SCRATCH_SIZE = 0, 3, 6, 10, 13, 16
"""Places of the colours of one pixel in the kernel's scratch array."""


def lid_curve(points: Array, origin: Array, axis: Array, width: float) -> F32:
    """Height (CURVE_SAMPLES,) of a lid line (9, 2) over the axis, pixels, positive downwards."""
    dx, dy = (points - origin).T
    along = (dx * axis[0] + dy * axis[1]) / width
    across = dy * axis[0] - dx * axis[1]
    order = np.argsort(along)
    return np.interp(_PLACES, along[order], across[order]).astype(np.float32)


_PLACES = np.linspace(0.0, 1.0, CURVE_SAMPLES)


@part_of_kernel
def bilinear(picture: F32, num_channels: int, x: float, y: float, scratch: F32, place: int) -> None:
    """Sample all channels into the scratch array; coordinates are clamped to the picture."""
    x = min(max(x, 0.0), picture.shape[1] - 1.001)
    y = min(max(y, 0.0), picture.shape[0] - 1.001)
    column, row = int(x), int(y)
    right, down = np.float32(x - column), np.float32(y - row)
    one = np.float32(1)
    for channel in range(num_channels):
        top = picture[row, column, channel] * (one - right)
        top += picture[row, column + 1, channel] * right
        low = picture[row + 1, column, channel] * (one - right)
        low += picture[row + 1, column + 1, channel] * right
        scratch[place + channel] = top * (one - down) + low * down


@part_of_kernel
def light_through_lashes(
    lashes: F32,
    line: F32,
    closing: float,
    outward: float,
    along: float,
    above: float,
    scratch: F32,
) -> None:
    """Share of light that lashes leave at a point ``above`` the lid's edge (eye distances).

    Open lashes stand up; as the lid goes down they foreshorten, and then point to the cheek.
    """
    for channel in range(3):
        scratch[LIGHT + channel] = 1.0
    column = (along + LASH_OVERHANG) / (1 + 2 * LASH_OVERHANG) * (LASH_COLUMNS - 1)
    width = LINE_WIDTH * (0.8 + 0.5 * closing)
    distance = abs(above)
    if column < 0 or column > LASH_COLUMNS - 1 or distance > LASH_LENGTH:
        return
    if distance < 3 * width:
        nearest = min(int(column), LASH_COLUMNS - 2)
        part = column - nearest
        ends = ease(0.0, 0.2, along) * (1 - ease(0.8, 1.0, along))
        thicker = 1 - 0.25 * ease(0.1, 0.7, closing) * ends
        near = np.exp(-((above / width) ** 2))
        for channel in range(3):
            dark = line[nearest, channel] * (1 - part)
            dark += line[nearest + 1, channel] * part
            scratch[LIGHT + channel] = 1.0 - (1.0 - dark * thicker) * near
    if above > 0:
        length, strength = max(0.0, 1 - 1.3 * closing), 1.0
        strength = ease(0.08, 0.35, length)
    else:
        length = 0.75 * ease(0.35, 1.0, closing)
        strength = 0.8 * ease(0.05, 0.3, length)
        column += outward * above * 60.0
    row_scale = (LASH_ROWS - 1) / LASH_LENGTH
    if strength > 0 and distance * row_scale < (LASH_ROWS - 1) * length:
        bilinear(lashes, 3, column, distance / length * row_scale, scratch, LASH)
        for channel in range(3):
            left = 1 - (1 - scratch[LASH + channel]) * strength
            if left < scratch[LIGHT + channel]:
                scratch[LIGHT + channel] = left


@compiled
def paint_eye(
    drawn: Picture,
    map_x: F32,
    map_y: F32,
    layers: EyeLayers,
    frame: EyeFrame,
    bounds: Bounds,
    scratch: F32,
) -> None:
    """Lid skin, eyeball and lashes of one eye, on the warped box in place.

    ``bounds`` are the rows and columns to paint: top, bottom, left, right. ``scratch``
    (SCRATCH_SIZE,) begins with zeros.
    """
    skin_share = ease(0.02, 0.22, frame.closing)
    depth = CLOSING_SHADOW * frame.closing
    if frame.closing < 0:
        depth = WIDE_SHADOW * ease(0.0, 0.15, -frame.closing)
    to_ball, upper, lower = frame.ball_from_box, frame.upper, frame.lower
    last_row, last_column = layers.lid.shape[0] - 1, layers.lid.shape[1] - 1
    top, bottom, left, right = bounds
    for y in range(top, bottom):
        for x in range(left, right):
            dx, dy = x - frame.origin_x, y - frame.origin_y
            along = (dx * frame.axis_x + dy * frame.axis_y) / frame.width
            across = dy * frame.axis_x - dx * frame.axis_y
            place = min(max(along, 0.0), 1.0) * (CURVE_SAMPLES - 1)
            nearest = min(int(place), CURVE_SAMPLES - 2)
            part = place - nearest
            inside = across - (upper[nearest] * (1 - part) + upper[nearest + 1] * part)
            over = lower[nearest] * (1 - part) + lower[nearest + 1] * part - across
            cover = min(max(inside + 0.5, 0.0), 1.0) + min(max(over + 0.5, 0.0), 1.0) - 1.0
            if along <= 0.0 or along >= 1.0:
                cover = 0.0
            cover = max(cover, 0.0)
            if skin_share == 0.0 and cover == 0.0:
                continue
            u, v = map_x[y, x] - frame.roi_x, map_y[y, x] - frame.roi_y
            skin_here = 0.0
            if skin_share > 0:
                above = -inside / frame.unit
                light_through_lashes(
                    layers.lashes, layers.line, frame.closing, frame.outward, along, above, scratch
                )
                if cover < 1 and 0 <= u < last_column and 0 <= v < last_row:
                    skin_here = skin_share
                    bilinear(layers.lid, 3, u, v, scratch, SKIN)
            shadow = 0.0
            if cover > 0:
                ball_x = to_ball.x_x * x + to_ball.x_y * y + to_ball.x_1
                ball_y = to_ball.y_x * x + to_ball.y_y * y + to_ball.y_1
                bilinear(layers.sclera, 3, ball_x, ball_y, scratch, BALL)
                bilinear(
                    layers.iris, 4, ball_x - frame.gaze_x, ball_y - frame.gaze_y, scratch, IRIS
                )
                shadow = depth * np.exp(-max(inside, 0.0) / (LID_SHADOW_LENGTH * frame.unit))
            for channel in range(3):
                ball = scratch[BALL + channel] * (1 - scratch[IRIS + 3]) + scratch[IRIS + channel]
                value = drawn[y, x, channel] * (1 - skin_here) + scratch[SKIN + channel] * skin_here
                value = value * (1 - cover) + ball * ((1 - shadow) * cover)
                value *= 1 - (1 - scratch[LIGHT + channel]) * skin_share
                drawn[y, x, channel] = int(min(max(value, 0.0), 255.0) + 0.5)
