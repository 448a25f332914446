"""Teeth: two procedural arches, and the portrait's own upper teeth where the picture shows them.

An arch is a strip bent along half an ellipse. Its looks are a texture unrolled along the arc
(columns: millimetres from the midline, rows: millimetres from the biting edge towards the gum),
drawn once per portrait at the sharpness of its photograph. Sizes are those of adults' teeth in
the anatomy books.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.rendering.mesh.complexion import Palette
from moda.rendering.mesh.plate import long_blur
from moda.structures import Floats, Picture
from moda.structures.landmarks import INNER_LIP_LOWER, INNER_LIP_UPPER, Array, Similarity

MILLIMETRE = 1.0 / 92.0
"""of an adult face, in canonical units (distance of the outer eye corners)"""

TEXELS_PER_MILLIMETRE = 6
ROWS_MILLIMETRES = 16.0
MIDLINE_MILLIMETRES = 58.0
"""Length of the arc from the midline to the last molar."""

SOUND_SHARE = 0.7
"""Least share of bright pixels in the photographed row of teeth."""

UPPER_WIDTHS = (8.6, 6.7, 7.7, 7.0, 6.8, 10.2, 9.6, 9.0)
UPPER_HEIGHTS = (10.4, 9.4, 10.2, 8.8, 8.2, 7.6, 7.4, 7.2)
LOWER_WIDTHS = (5.3, 5.8, 6.8, 7.0, 7.1, 11.0, 10.5, 9.5)
LOWER_HEIGHTS = (8.8, 9.0, 10.0, 8.8, 8.2, 7.6, 7.4, 7.2)
UPPER_EDGE_LIFT = (0.0, 0.55, 0.1, 0.45, 0.7, 1.0, 1.3, 1.6)
LOWER_EDGE_LIFT = (0.0, 0.05, 0.1, 0.35, 0.5, 0.6, 0.7, 0.8)
"""Millimetres by which the biting edge lies further back than that of the middle teeth."""
UPPER_CONTACT, LOWER_CONTACT = 0.13, 0.35
"""How dark the line is on which two teeth touch; the lower ones are crowded."""


class ToothTexture(NamedTuple):
    """An unrolled arch; sampled by the painting kernel."""

    looks: Floats
    """(rows, columns, 2): brightness of the enamel (about 1), and how much is gum (0..1)"""
    edge: Floats
    """(columns,) millimetres from the edge line of the middle teeth to that of this column"""


class Arch(NamedTuple):
    """Half an ellipse in canonical units: x = width * sin(angle), z = z + depth * (1 - cos)."""

    centre_x: float
    edge_y: float
    """Height of the middle teeth's biting edge."""
    front_z: float
    width: float
    depth: float
    rise: float
    """By how much the edge at the side lies higher (towards the eyes) than in the middle."""
    arc: Floats
    """(N,) millimetres along the arc for angles evenly spaced from 0 to a right angle."""


class RealTeeth(NamedTuple):
    """The portrait's own upper teeth, a patch of the plate that stays on the skull."""

    patch: Floats  # (h, w, 4) RGB 0..255 and coverage 0..1
    left: int
    top: int
    edge_y: float
    """Canonical height of the biting edge, as far as the picture shows it."""


def arc_lengths(width: float, depth: float, millimetre: float) -> Floats:
    """Millimetres along half an ellipse from its front, at evenly spaced angles (129,)."""
    angles = np.linspace(0.0, 0.5 * np.pi, 129)
    speed = np.hypot(width * np.cos(angles), depth * np.sin(angles))
    steps = 0.5 * (speed[1:] + speed[:-1]) * (angles[1] - angles[0])
    return np.concatenate([[0.0], np.cumsum(steps)]).astype(np.float32) / np.float32(millimetre)


def tooth_texture(upper: bool, blur_millimetres: float) -> ToothTexture:
    """Draw an arch as seen at a given sharpness (standard deviation of the blur)."""
    generator = np.random.default_rng(11 if upper else 12)
    columns = int(2 * MIDLINE_MILLIMETRES * TEXELS_PER_MILLIMETRE)
    rows = int(ROWS_MILLIMETRES * TEXELS_PER_MILLIMETRE)
    along = (np.arange(columns) + 0.5) / TEXELS_PER_MILLIMETRE - MIDLINE_MILLIMETRES
    above = ((np.arange(rows) + 0.5) / TEXELS_PER_MILLIMETRE)[:, None]
    shade = np.full((rows, columns), 0.7)
    gum = np.zeros((rows, columns))
    edge = np.zeros(columns)
    widths = UPPER_WIDTHS if upper else LOWER_WIDTHS
    heights = UPPER_HEIGHTS if upper else LOWER_HEIGHTS
    lifts = UPPER_EDGE_LIFT if upper else LOWER_EDGE_LIFT
    for side in (-1.0, 1.0):
        start = 0.0
        for width, height, lift in zip(widths, heights, lifts, strict=True):
            inside = (side * along >= start) & (side * along <= start + width)
            across = (side * along[inside] - start) / (0.5 * width) - 1.0  # -1..1 within the tooth
            tilt, tone, longer = generator.normal(0.0, (0.10, 0.018, 0.12))
            edge[inside] = lift + longer + tilt * across + 0.55 * np.abs(across) ** 5
            height_in_tooth = np.clip((above - edge[inside]) / height, 0.0, 1.5)
            contact = UPPER_CONTACT if upper else LOWER_CONTACT
            shade[:, inside] = _enamel(across, height_in_tooth, contact) * (1.0 + tone)
            gum_line = height * (1.0 - 0.16 * across**2)
            gum[:, inside] = np.clip((above - gum_line) / 0.5 + 0.5, 0.0, 1.0)
            start += width
    sigma = max(0.12, blur_millimetres) * TEXELS_PER_MILLIMETRE
    looks = np.stack([long_blur(image, sigma) for image in (shade, gum)], axis=-1)
    soft_edge = long_blur(edge[None], 1.2 * sigma)[0]
    return ToothTexture(looks.astype(np.float32), soft_edge.astype(np.float32))


def _enamel(across: Array, height: Array, darkness: float) -> Array:
    """Brightness of one tooth; ``across`` (columns,) -1..1, ``height`` (rows, columns) 0..1.

    ``darkness`` 0..1 is that of the line on which it touches the next.
    """
    body = 0.955 + 0.055 * np.sqrt(np.clip(1.0 - across**2, 0.0, 1.0))
    neck = 1.0 - 0.10 * np.clip((height - 0.45) / 0.55, 0.0, 1.0) ** 1.5
    translucent_edge = 1.0 - 0.07 * np.exp(-height / 0.10)
    glint = 0.035 * np.exp(-(((across + 0.15) / 0.45) ** 2) - ((height - 0.42) / 0.22) ** 2)
    contact = darkness * np.exp(-(((1.0 - np.abs(across)) / 0.10) ** 2))
    embrasure = 0.20 * np.exp(-(((1.0 - np.abs(across)) / 0.16) ** 2)) * np.exp(-height / 0.12)
    return (body * neck * translucent_edge + glint) * (1.0 - contact - embrasure)


class _Hole(NamedTuple):
    """The opening of the photographed mouth, cut from the plate."""

    region: Floats  # (h, w, 3)
    left: int
    top: int
    x: Array  # (w,) px of the plate
    y: Array  # (h, 1)
    upper: Array  # (w,) row of the upper lip's edge
    inside: NDArray[np.bool_]  # (h, w)
    middle: float
    width: float


def _cut_hole(plate: Picture, landmarks: Array, unit: float) -> _Hole | None:
    upper, lower = landmarks[list(INNER_LIP_UPPER), :2], landmarks[list(INNER_LIP_LOWER), :2]
    pad = max(2, round(0.10 * unit))
    low = np.floor(np.minimum(upper.min(0), lower.min(0))).astype(int) - pad
    high = np.ceil(np.maximum(upper.max(0), lower.max(0))).astype(int) + pad + 1
    left, top = np.maximum(low, 0)
    right, bottom = np.minimum(high, [plate.shape[1], plate.shape[0]])
    if right - left < 6 or bottom - top < 4:
        return None
    x, y = np.arange(left, right, dtype=float), np.arange(top, bottom, dtype=float)[:, None]
    upper_y = np.interp(x, *upper[np.argsort(upper[:, 0])].T)
    lower_y = np.interp(x, *lower[np.argsort(lower[:, 0])].T)
    first, last = float(upper[:, 0].min()), float(upper[:, 0].max())
    inside = (y > upper_y + 0.008 * unit) & (y < lower_y - 0.008 * unit) & (x > first) & (x < last)
    if inside.sum() < 12 or last - first < 6.0:
        return None
    region = plate[top:bottom, left:right].astype(np.float32)
    middle = float(upper[:, 0].mean())
    return _Hole(region, int(left), int(top), x, y, upper_y, inside, middle, last - first)


def seen_tooth_colour(
    plate: Picture, landmarks: Array, unit: float, palette: Palette
) -> Floats | None:
    """Colour (3,) of the brightest enamel in an open mouth; None where none can be told."""
    hole = _cut_hole(plate, landmarks, unit)
    if hole is None:
        return None
    pixels = hole.region[hole.inside]
    redness = pixels[:, 0] / np.maximum(pixels[:, 1], 1.0)
    skin_redness = palette.skin[0] / max(float(palette.skin[1]), 1.0)
    enamel = pixels[(pixels.mean(1) > 0.72 * palette.skin.mean()) & (redness <= skin_redness)]
    if len(enamel) < max(6, 0.06 * len(pixels)):
        return None
    brightest = enamel[enamel.mean(1) >= np.percentile(enamel.mean(1), 50)]
    return np.median(brightest, axis=0).astype(np.float32)


def find_real_teeth(
    plate: Picture, landmarks: Array, rest: Similarity, canonical: Array, palette: Palette
) -> RealTeeth | None:
    """Cut the upper teeth out of a picture of an open mouth; None where it shows too few.

    ``landmarks`` (478, 3) px of the plate, ``canonical`` (478, 3). A column of the mouth counts
    if something bright begins close to the upper lip; teeth must fill most of the middle columns.
    """
    unit, skin_luma = rest.scale, float(palette.skin.mean())
    hole = _cut_hole(plate, landmarks, unit)
    if hole is None:
        return None
    luma = hole.region.mean(2)
    dark, bright = np.percentile(luma[hole.inside], [10, 92])
    bright_part = hole.inside & (luma > max(0.58 * skin_luma, dark + 0.5 * (bright - dark)))
    tooth_bottom = _lower_ends(bright_part, hole.y[:, 0], hole.upper, unit)
    found = ~np.isnan(tooth_bottom)
    from_middle = np.abs(hole.x - hole.middle)
    if found[from_middle < 0.33 * hole.width].mean() < 0.6 or bright < 0.7 * skin_luma:
        return None
    ends = _smooth_line(np.interp(hole.x, hole.x[found], tooth_bottom[found]), unit)
    row = hole.inside & (hole.y <= ends) & (from_middle < 0.33 * hole.width)
    if bright_part[row].mean() < SOUND_SHARE:
        return None  # gaps, or two rows seen as one
    coverage = _coverage(hole.inside, hole.y, ends, found, unit)
    patch = np.dstack([_extend(hole.region, coverage), coverage]).astype(np.float32)
    centre = from_middle < 0.12 * hole.width
    below_lip = float(np.median(ends[centre]) - np.median(hole.upper[centre])) / unit
    edge_y = float(canonical[INNER_LIP_UPPER[5], 1]) + below_lip
    return RealTeeth(patch, hole.left, hole.top, edge_y)


def _lower_ends(bright: NDArray[np.bool_], y: Array, upper_y: Array, unit: float) -> Array:
    """Row where the teeth that begin at the upper lip end, per column; NaN: no tooth (columns,)."""
    ends = np.full(bright.shape[1], np.nan)
    for column in range(bright.shape[1]):
        rows = np.flatnonzero(bright[:, column])
        if not len(rows) or y[rows[0]] > upper_y[column] + 0.06 * unit:
            continue
        breaks = np.flatnonzero(np.diff(rows) > max(1.0, 0.012 * unit))
        last = rows[breaks[0]] if len(breaks) else rows[-1]
        if y[last] - y[rows[0]] >= 0.022 * unit:
            ends[column] = min(y[last], upper_y[column] + 0.125 * unit)
    return ends


def _smooth_line(ends: Array, unit: float) -> Array:
    """Biting edge without the stray steps of single columns (columns,)."""
    reach = max(1, round(0.03 * unit))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(ends, reach, "edge"), 2 * reach + 1)
    return long_blur(np.median(windows, axis=1)[None], 0.016 * unit)[0]


def _coverage(
    inside: NDArray[np.bool_], y: Array, ends: Array, found: NDArray[np.bool_], unit: float
) -> Floats:
    """How far the patch is to be believed (h, w): 1 on teeth, 0 outside, soft.

    It ends sharply at the biting edge and fades slowly towards the gum and the corners, where
    drawn teeth carry on.
    """
    solid = (inside & (y < ends + 1.0) & found).astype(np.uint8)
    size = 2 * max(1, round(0.010 * unit)) + 1
    solid[:] = cv2.morphologyEx(solid, cv2.MORPH_OPEN, np.ones((size, size), np.uint8))
    padded = np.zeros(np.add(solid.shape, 2), np.uint8)
    padded[1:-1, 1:-1] = solid | (y > ends)  # so that only the other sides fade
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    fade = np.clip(distance / max(1.5, 0.035 * unit), 0.0, 1.0)
    edge = np.clip(0.5 + (ends - y) / max(1.0, 0.010 * unit), 0.0, 1.0)
    return (fade * fade * (3.0 - 2.0 * fade) * edge).astype(np.float32)


def _extend(region: Floats, coverage: Floats) -> Floats:
    """Tooth colour carried on beyond the teeth, so that soft edges do not show lip (h, w, 3)."""
    weight = (coverage > 0.25).astype(np.float32)[..., None]
    sigma = max(1.0, 0.04 * region.shape[1])
    total = cv2.GaussianBlur(region * weight, (0, 0), sigma)
    count = cv2.GaussianBlur(weight[..., 0], (0, 0), sigma)[..., None]
    spread = total / np.maximum(count, 1e-3)
    return np.where(weight > 0, region, np.where(count > 1e-3, spread, region))
