"""The compiled inner loop that paints an eye: lid skin, eyeball, lashes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.rendering.compiled import compiled
from moda.rendering.mesh.warp import Bounds, ease
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
    ball_from_box: Array  # (2, 3) affine, pixels of the box -> texels of the layers
    gaze_x: float  # texels
    gaze_y: float
    roi_x: float
    """Texels of the box at which the layers begin"""
    roi_y: float


@compiled
def lid_curve(points: Array, origin: Array, axis: Array, width: float) -> F32:
    """Height (CURVE_SAMPLES,) of a lid line (9, 2) over the axis, pixels, positive downwards."""
    along, across = np.empty(len(points)), np.empty(len(points))
    for k in range(len(points)):
        dx, dy = points[k, 0] - origin[0], points[k, 1] - origin[1]
        along[k] = (dx * axis[0] + dy * axis[1]) / width
        across[k] = dy * axis[0] - dx * axis[1]
    order = np.argsort(along)
    places = np.linspace(0.0, 1.0, CURVE_SAMPLES)
    return np.interp(places, along[order], across[order]).astype(np.float32)


@compiled
def bilinear(picture: F32, x: float, y: float, out: F32) -> None:
    """Sample all channels into ``out``; coordinates are clamped to the picture."""
    height, width, channels = picture.shape
    x = min(max(x, 0.0), width - 1.001)
    y = min(max(y, 0.0), height - 1.001)
    column, row = int(x), int(y)
    right, down = np.float32(x - column), np.float32(y - row)
    one = np.float32(1)
    for channel in range(channels):
        top = picture[row, column, channel] * (one - right)
        top += picture[row, column + 1, channel] * right
        low = picture[row + 1, column, channel] * (one - right)
        low += picture[row + 1, column + 1, channel] * right
        out[channel] = top * (one - down) + low * down


@compiled
def light_through_lashes(
    layers: EyeLayers, frame: EyeFrame, along: float, above: float, lash: F32, light: F32
) -> None:
    """Share of light (3,) that lashes leave at a point ``above`` the lid's edge (eye distances).

    Open lashes stand up; as the lid goes down they foreshorten, and then point to the cheek.
    ``lash`` (3,) is scratch.
    """
    closing = frame.closing
    light[:] = 1.0
    column = (along + LASH_OVERHANG) / (1 + 2 * LASH_OVERHANG) * (LASH_COLUMNS - 1)
    width = LINE_WIDTH * (0.8 + 0.5 * closing)
    if column < 0 or column > LASH_COLUMNS - 1 or abs(above) > LASH_LENGTH:
        return
    if abs(above) < 3 * width:
        nearest = min(int(column), LASH_COLUMNS - 2)
        part = column - nearest
        ends = ease(0.0, 0.2, along) * (1 - ease(0.8, 1.0, along))
        thicker = 1 - 0.25 * ease(0.1, 0.7, closing) * ends
        near = np.exp(-((above / width) ** 2))
        for channel in range(3):
            line = layers.line[nearest, channel] * (1 - part)
            line += layers.line[nearest + 1, channel] * part
            light[channel] = 1.0 - (1.0 - line * thicker) * near
    if above > 0:
        length, strength = max(0.0, 1 - 1.3 * closing), 1.0
        strength = ease(0.08, 0.35, length)
    else:
        length = 0.75 * ease(0.35, 1.0, closing)
        strength = 0.8 * ease(0.05, 0.3, length)
        column += frame.outward * above * 60.0
    row_scale = (LASH_ROWS - 1) / LASH_LENGTH
    if strength > 0 and abs(above) * row_scale < (LASH_ROWS - 1) * length:
        bilinear(layers.lashes, column, abs(above) / length * row_scale, lash)
        for channel in range(3):
            light[channel] = min(light[channel], 1 - (1 - lash[channel]) * strength)


@compiled
def ball_colour(layers: EyeLayers, frame: EyeFrame, x: int, y: int, iris: F32, ball: F32) -> None:
    """Colour (3,) of the eyeball at a pixel of the box; ``iris`` (4,) is scratch."""
    affine = frame.ball_from_box
    ball_x = affine[0, 0] * x + affine[0, 1] * y + affine[0, 2]
    ball_y = affine[1, 0] * x + affine[1, 1] * y + affine[1, 2]
    bilinear(layers.sclera, ball_x, ball_y, ball)
    bilinear(layers.iris, ball_x - frame.gaze_x, ball_y - frame.gaze_y, iris)
    for channel in range(3):
        ball[channel] = ball[channel] * (1 - iris[3]) + iris[channel]


@compiled
def paint_eye(
    drawn: Picture,
    map_x: F32,
    map_y: F32,
    layers: EyeLayers,
    frame: EyeFrame,
    bounds: Bounds,
) -> None:
    """Lid skin, eyeball and lashes of one eye, on the warped box in place.

    ``bounds`` are the rows and columns to paint: top, bottom, left, right.
    """
    skin_share = ease(0.02, 0.22, frame.closing)
    depth = CLOSING_SHADOW * frame.closing
    if frame.closing < 0:
        depth = WIDE_SHADOW * ease(0.0, 0.15, -frame.closing)
    height, width = layers.lid.shape[:2]
    skin, ball, iris = np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(4, np.float32)
    lash, light = np.zeros(3, np.float32), np.ones(3, np.float32)
    top, bottom, left, right = bounds
    for y in range(top, bottom):
        for x in range(left, right):
            dx, dy = x - frame.origin_x, y - frame.origin_y
            along = (dx * frame.axis_x + dy * frame.axis_y) / frame.width
            across = dy * frame.axis_x - dx * frame.axis_y
            place = min(max(along, 0.0), 1.0) * (CURVE_SAMPLES - 1)
            nearest = min(int(place), CURVE_SAMPLES - 2)
            part = place - nearest
            inside = across - (frame.upper[nearest] * (1 - part) + frame.upper[nearest + 1] * part)
            over = frame.lower[nearest] * (1 - part) + frame.lower[nearest + 1] * part - across
            cover = min(max(inside + 0.5, 0.0), 1.0) + min(max(over + 0.5, 0.0), 1.0) - 1.0
            if along <= 0.0 or along >= 1.0:
                cover = 0.0
            cover = max(cover, 0.0)
            if skin_share == 0.0 and cover == 0.0:
                continue
            u, v = map_x[y, x] - frame.roi_x, map_y[y, x] - frame.roi_y
            skin_here = 0.0
            if skin_share > 0:
                light_through_lashes(layers, frame, along, -inside / frame.unit, lash, light)
                if cover < 1 and 0 <= u < width - 1 and 0 <= v < height - 1:
                    skin_here = skin_share
                    bilinear(layers.lid, u, v, skin)
            shadow = 0.0
            if cover > 0:
                ball_colour(layers, frame, x, y, iris, ball)
                shadow = depth * np.exp(-max(inside, 0.0) / (LID_SHADOW_LENGTH * frame.unit))
            for channel in range(3):
                value = drawn[y, x, channel] * (1 - skin_here) + skin[channel] * skin_here
                value = value * (1 - cover) + ball[channel] * ((1 - shadow) * cover)
                value *= 1 - (1 - light[channel]) * skin_share
                drawn[y, x, channel] = int(min(max(value, 0.0), 255.0) + 0.5)
