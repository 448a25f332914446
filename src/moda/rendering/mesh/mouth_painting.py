"""The kernel that paints the inside of the mouth, pixel by pixel, all layers in one pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moda.rendering.compiled import compiled, part_of_kernel
from moda.rendering.mesh.teeth import MIDLINE_MILLIMETRES, TEXELS_PER_MILLIMETRE
from moda.rendering.mesh.warp import AffineMap, Bounds
from moda.rendering.mesh.warp import compiled_ease as ease
from moda.structures import Floats, Picture
from moda.structures.landmarks import Array

SAMPLES_PER_SPAN = 8
NARROW_LIGHT, WIDE_LIGHT = 0.75, 0.65
"""How light the dark of a narrow and of a wide mouth is, from the deepest dark to the walls. A
narrow one has no depth: the tongue is near."""
SEAM_ABOVE, SEAM_BELOW = 0.020, 0.013
"""How far the dark where lips meet reaches up and down, canonical units."""
SEAM_CORNER = 0.85
"""Part of the half width of the mouth from which on it fades."""
SEAM_REACH = 2.2
"""Where nothing is left of it, in these distances."""
NARROW_GAPS = (0.01, 0.06)
"""Between these heights of the opening it is less and less like the line on which lips meet."""
TOOTH, GUM, TONGUE, DEEP, WALL, LIP, SEAM, FLUSH, SKIN = range(9)
"""Rows of :attr:`moda.rendering.mesh.complexion.Palette.colours`."""
LIP_RIM = 0.015
"""Width of the lower lip's innermost rim, canonical units."""


class Opening(NamedTuple):
    """The hole between the lips, in axes along (x) and across (y) the mouth, in px.

    Its edges are a table, see :func:`lip_curves`.
    """

    origin_x: float
    origin_y: float
    cosine: float
    sine: float
    start: float
    step: float
    half_width: float
    unit: float
    softness: float
    """Width of the lip's edge in px."""
    light: float
    """How much light falls on what is near the lips, 0..1."""
    depth_light: float
    """How much light reaches the back, 0..1."""
    healing: float
    """How far to replace the dark line that closed lips left on the lower lip, 0..1."""
    seam: float
    """How far to darken the lips towards the line on which they meet, 0..1."""
    slant: float
    """Relative change of light from the middle of the mouth to its left corner."""


class ArchView(NamedTuple):
    """An arch of teeth as the camera sees it; see ``mouth._arch_view``."""

    across_x: float
    across_y: float
    across_1: float
    reach: float
    phase: float
    down_x: float
    """Canonical x, y, z, 1 -> pixel row"""
    down_y: float
    down_z: float
    down_1: float
    centre_x: float
    edge_y: float
    front_z: float
    width: float
    depth: float
    rise: float
    millimetre: float
    direction: float
    """1: the teeth point down, -1: up"""
    arc: Floats
    looks: Floats
    edge: Floats


class Tongue(NamedTuple):
    """Centre and half axes of the mound, px."""

    x: float
    y: float
    width: float
    height: float


class Patch(NamedTuple):
    """Part of the plate with a coverage, (h, w, 4), and where it lies."""

    pixels: Floats
    left: float
    top: float
    strength: float = 1.0


def lip_curves(upper: Array, lower: Array) -> tuple[float, float, Floats]:
    """Smooth curves through the points of both lips (N, 2), tabulated over x.

    Returns the first x, the step, and (M, 4): upper y, lower y, cosines of the slopes.
    """
    start, end = float(upper[0, 0]), float(upper[-1, 0])
    count = SAMPLES_PER_SPAN * (len(upper) - 1) + 1
    table = np.empty((count, 4), np.float32)
    for column, lip in enumerate((upper, lower)):
        x, y = lip.T.tolist()
        least = (end - start) * 1e-3
        for k in range(1, len(x)):
            x[k] = max(x[k], x[k - 1] + least)
        _tabulate(np.array([x, y]), start, end, column, table)
    return start, (end - start) / (count - 1), table


@compiled
def _tabulate(points: Array, start: float, end: float, column: int, table: Floats) -> None:
    """Cubic Hermite curve through points (2, N) at even steps of x; its tangents are secants."""
    last = points.shape[1] - 1
    span, count = -1, len(table)
    left = right = low = high = slope_low = slope_high = 0.0
    for i in range(count):
        at = start + (end - start) * i / (count - 1)
        while span < 0 or (span < last - 1 and at > right):
            span += 1
            left, right = points[0, span], points[0, span + 1]
            low, high = points[1, span], points[1, span + 1]
            before, after = max(span - 1, 0), min(span + 2, last)
            slope_low = (high - points[1, before]) / (right - points[0, before])
            slope_high = (points[1, after] - low) / (points[0, after] - left)
        width = right - left
        t = min(max((at - left) / width, 0.0), 1.0)
        a = (1 + 2 * t) * (1 - t) * (1 - t)
        b = t * (1 - t) * (1 - t) * width
        c = t * t * (3 - 2 * t)
        d = t * t * (t - 1) * width
        table[i, column] = a * low + b * slope_low + c * high + d * slope_high
        steep = (high - low) / width
        table[i, 2 + column] = 1.0 / np.sqrt(1.0 + steep * steep)


@part_of_kernel
def _mix(colour: Array, colours: Floats, which: int, gain: float, weight: float) -> None:
    for c in range(3):
        colour[c] += (colours[which, c] * gain - colour[c]) * weight


@part_of_kernel
def _look_at_arch(arch: ArchView, x: float, y: float) -> tuple[float, float, float, float]:
    """What of an arch pixel (x, y) shows.

    Millimetres from the biting edge towards the gum, brightness, gum share, cosine of the angle at
    which the teeth turn away.
    """
    side = (arch.across_x * x + arch.across_y * y + arch.across_1) / arch.reach
    angle = arch.phase + np.arcsin(min(max(side, -0.999), 0.999))
    sine, cosine = np.sin(angle), np.cos(angle)
    point_x = arch.centre_x + arch.width * sine
    point_z = arch.front_z + arch.depth * (1.0 - cosine)
    point_y = (y - arch.down_1 - arch.down_x * point_x - arch.down_z * point_z) / arch.down_y
    edge_y = arch.edge_y - arch.rise * sine * sine
    at = min(abs(angle) / (0.5 * np.pi), 0.9999) * (len(arch.arc) - 1)
    k = int(at)
    along = arch.arc[k] + (arch.arc[k + 1] - arch.arc[k]) * (at - k)
    if angle < 0.0:
        along = -along
    looks = arch.looks
    column = (along + MIDLINE_MILLIMETRES) * TEXELS_PER_MILLIMETRE - 0.5
    column = min(max(column, 0.0), looks.shape[1] - 1.001)
    i = int(column)
    u = column - i
    height = arch.direction * (edge_y - point_y) / arch.millimetre
    row = min(max(height * TEXELS_PER_MILLIMETRE - 0.5, 0.0), looks.shape[0] - 1.001)
    j = int(row)
    v = row - j
    height -= arch.edge[i] + (arch.edge[i + 1] - arch.edge[i]) * u
    shade = _between(looks, j, i, 0, u, v)
    return height, shade, _between(looks, j, i, 1, u, v), max(cosine, 0.0)


@part_of_kernel
def _between(looks: Floats, j: int, i: int, c: int, u: float, v: float) -> float:
    """A channel between four neighbouring texels."""
    top = looks[j, i, c] + (looks[j, i + 1, c] - looks[j, i, c]) * u
    low = looks[j + 1, i, c] + (looks[j + 1, i + 1, c] - looks[j + 1, i, c]) * u
    return top + (low - top) * v


@part_of_kernel
def _tongue_light(tongue: Tongue, x: float, y: float, depth_light: float) -> tuple[float, float]:
    """A mound lit from the front, which sinks into the dark at its back and sides.

    Light and coverage at a pixel.
    """
    u, v = (x - tongue.x) / tongue.width, (y - tongue.y) / tongue.height
    side = abs(u)
    back = -1.0 + 0.55 * side**2.6
    cover = ease(back - 0.08, back + 0.26, v) * (1.0 - ease(0.75, 1.12, side))
    if cover <= 0.0:
        return 0.0, 0.0
    deep = (v - back) / (0.2 - back)
    shade = 0.34 + 0.70 * ease(-0.05, 0.75, deep)
    shade *= 1.0 - (0.40 - 0.15 * depth_light) * min(side, 1.0) ** 2.0
    shade *= 1.0 - 0.09 * np.exp(-((u / 0.13) ** 2)) * ease(0.10, 0.5, deep)
    shade *= (1.0 - 0.22 * ease(0.75, 1.2, deep)) * (0.62 + 0.72 * depth_light)
    wet = 0.10 * np.exp(-(((side - 0.25) / 0.22) ** 2) - ((deep - 0.62) / 0.16) ** 2)
    return shade + wet, cover


@part_of_kernel
def _add_real_teeth(
    colour: Array, patch: Floats, column: float, row: float, gain: float, strength: float
) -> None:
    """Mix in the portrait's own teeth at a position in their patch (h, w, 4)."""
    height, width = patch.shape[0], patch.shape[1]
    if column < 0.0 or row < 0.0 or column >= width - 1 or row >= height - 1:
        return
    i, j = int(column), int(row)
    u, v = column - i, row - j
    share = strength * _weighted(patch, j, i, 3, u, v)
    if share > 0.0:
        for c in range(3):
            colour[c] += (_weighted(patch, j, i, c, u, v) * gain - colour[c]) * share


@part_of_kernel
def _weighted(patch: Floats, j: int, i: int, c: int, u: float, v: float) -> float:
    """A channel between four neighbouring pixels."""
    top = patch[j, i, c] * (1.0 - u) + patch[j, i + 1, c] * u
    low = patch[j + 1, i, c] * (1.0 - u) + patch[j + 1, i + 1, c] * u
    return top + (low - top) * v


@compiled
def paint_mouth(
    frame: Picture,
    bounds: Bounds,
    opening: Opening,
    edges: Floats,
    upper: ArchView,
    lower: ArchView,
    tongue: Tongue,
    colours: Floats,
    patch: Patch,
    to_plate: AffineMap,
    grain: Floats,
    colour: Array,
) -> None:
    """Paint every pixel of the opening: dark, tongue, lower teeth, upper teeth, rim of the lips.

    ``colour`` (3,) is scratch.
    """
    top, bottom, left, right = bounds
    unit, inner = opening.unit, opening.depth_light
    last = len(edges) - 1
    for y in range(top, bottom):
        for x in range(left, right):
            along = (x - opening.origin_x) * opening.cosine + (y - opening.origin_y) * opening.sine
            across = (y - opening.origin_y) * opening.cosine - (x - opening.origin_x) * opening.sine
            at = (along - opening.start) / opening.step
            if at < 0.0 or at >= last:
                continue
            k = int(at)
            t = at - k
            below_upper = across - edges[k, 0] - (edges[k + 1, 0] - edges[k, 0]) * t
            below_upper *= edges[k, 2]
            above_lower = edges[k, 1] + (edges[k + 1, 1] - edges[k, 1]) * t - across
            above_lower *= edges[k, 3]
            side = along / opening.half_width
            if opening.seam > 0.0:
                _darken_seam(
                    frame, opening.seam, unit, colours, x, y, below_upper, above_lower, side
                )
            if opening.healing > 0.0 and below_upper > 0.0:
                _heal_lip(frame, opening, x, y, above_lower, side)
            cover = min(max(0.5 + below_upper / opening.softness, 0.0), 1.0)
            cover += min(max(0.5 + above_lower / opening.softness, 0.0), 1.0) - 1.0
            if cover <= 0.0:
                continue
            below, above = max(below_upper, 0.0) / unit, max(above_lower, 0.0) / unit
            _paint_cavity(colour, colours, side, below, above, inner)
            shade, share = _tongue_light(tongue, x, y, inner)
            if share > 0.0:
                _mix(colour, colours, TONGUE, shade, share)
            light = opening.light * (1.0 + opening.slant * side)
            light *= 1.0 - (0.75 - 0.45 * inner) * ease(0.35, 1.0, abs(side))
            seen = _look_at_arch(lower, x, y)
            soft = max(opening.softness, 0.9) / (unit * lower.millimetre)
            lower_light = light * (0.64 + 0.16 * inner)
            _paint_row(colour, colours, seen, soft, lower_light, 0.25, above)
            seen = _look_at_arch(upper, x, y)
            if seen[0] < 0.0:
                shadow = 1.0 - (0.45 - 0.20 * inner) * np.exp(seen[0] / 3.5)
                for c in range(3):
                    colour[c] *= shadow
            _paint_row(colour, colours, seen, soft, light, 0.75 - 0.50 * inner, below)
            plate_x = to_plate.x_x * x + to_plate.x_y * y + to_plate.x_1
            plate_y = to_plate.y_x * x + to_plate.y_y * y + to_plate.y_1
            if patch.strength > 0.0:
                gain = 1.0 - 0.35 * np.exp(-below / 0.02)
                _add_real_teeth(
                    colour,
                    patch.pixels,
                    plate_x - patch.left,
                    plate_y - patch.top,
                    gain,
                    patch.strength,
                )
            _paint_rim(colour, colours, below, above)
            noise = grain[int(plate_y) % len(grain), int(plate_x) % len(grain)]
            noise *= min(1.0, 0.15 + 0.85 * colour[1] / colours[SKIN, 1])
            for c in range(3):
                value = frame[y, x, c] + (colour[c] + noise - frame[y, x, c]) * cover
                frame[y, x, c] = np.uint8(min(max(value + 0.5, 0.0), 255.0))


@part_of_kernel
def _darken_seam(
    frame: Picture,
    seam: float,
    unit: float,
    colours: Floats,
    x: int,
    y: int,
    below_upper: float,
    above_lower: float,
    side: float,
) -> None:
    """Less light reaches the lips towards the line on which they meet."""
    above, below = max(-below_upper, 0.0) / SEAM_ABOVE, max(-above_lower, 0.0) / SEAM_BELOW
    distance = max(above, below) / unit
    if distance > SEAM_REACH:
        return
    share = seam * np.exp(-distance * distance) * (1.0 - ease(SEAM_CORNER, 1.0, abs(side)))
    for c in range(3):
        own = float(frame[y, x, c])
        frame[y, x, c] = np.uint8(own + (min(own, colours[SEAM, c]) - own) * share + 0.5)


@part_of_kernel
def _heal_lip(
    frame: Picture, opening: Opening, x: int, y: int, above_lower: float, side: float
) -> None:
    """Give the innermost rim of the lower lip the colour of the lip a little further out."""
    reach = LIP_RIM * opening.unit
    if above_lower <= -reach or above_lower > opening.softness:
        return
    weight = opening.healing * ease(-reach, -0.2 * reach, above_lower)
    weight *= 1.0 - ease(0.30, 0.75, abs(side))  # near the corners the lip is too thin
    if weight <= 0.0:
        return
    shift = 1.6 * reach + max(above_lower, 0.0)
    column = int(x - opening.sine * shift + 0.5)
    row = int(y + opening.cosine * shift + 0.5)
    if row < 0 or column < 0 or row >= frame.shape[0] or column >= frame.shape[1]:
        return
    for c in range(3):
        own, other = float(frame[y, x, c]), float(frame[row, column, c])
        other = min(other, 1.7 * own + 4.0)
        if other > own:
            frame[y, x, c] = np.uint8(own + (other - own) * weight + 0.5)


@part_of_kernel
def _paint_cavity(
    colour: Array, colours: Floats, side: float, below: float, above: float, depth_light: float
) -> None:
    """The dark at the back, a little lighter on the floor and where the cheeks come in."""
    down = below / (below + above + 1e-6)
    lit = 0.50 * down * down * (1.0 - side * side) + 0.35 * np.exp(-above / 0.03)
    lit += 0.30 * ease(0.45, 0.9, abs(side)) * ease(0.02, 0.09, min(below, above))
    lit = min(lit, 1.0)
    lit += (NARROW_LIGHT + (WIDE_LIGHT - NARROW_LIGHT) * depth_light) * (1.0 - 0.6 * lit)
    for c in range(3):
        colour[c] = colours[DEEP, c] + (colours[WALL, c] - colours[DEEP, c]) * lit


@part_of_kernel
def _paint_row(
    colour: Array,
    colours: Floats,
    seen: tuple[float, float, float, float],
    soft: float,
    light: float,
    lip_shadow: float,
    from_lip: float,
) -> None:
    """One row of teeth (see :func:`_look_at_arch`), shaded by the lip it grows from."""
    height, brightness, gum, turned = seen
    cover = min(max(0.5 + height / soft, 0.0), 1.0)
    if cover <= 0.0:
        return
    gain = light * (0.30 + 0.70 * turned**1.4)
    gain *= 1.0 - lip_shadow * np.exp(-from_lip / 0.022)
    warmth = max(1.0 - gain, 0.0)
    for c in range(3):
        value = colours[TOOTH, c] * brightness * (1.0 - gum) + colours[GUM, c] * gum
        shade = gain * (1.0 + (colours[FLUSH, c] - 1.0) * warmth)
        colour[c] += (value * shade - colour[c]) * cover


@part_of_kernel
def _paint_rim(colour: Array, colours: Floats, below: float, above: float) -> None:
    """The lips roll inwards: a dark rim under the upper one, a moist one on the lower."""
    _mix(colour, colours, LIP, 0.40, 0.50 * np.exp(-below / 0.008))
    _mix(colour, colours, LIP, 0.80, 0.65 * np.exp(-above / 0.007))
    meeting = 1.0 - ease(NARROW_GAPS[0], NARROW_GAPS[1], below + above)
    _mix(colour, colours, SEAM, 0.9, 0.8 * meeting)


def bounds_of_opening(opening: Opening, edges: Floats, width: int, height: int) -> Bounds:
    """Box of pixels that holds the opening and what is painted beside it, within the picture."""
    along = (opening.start + opening.step * np.arange(len(edges)))[:, None]
    across = edges[:, :2].astype(np.float64)
    x = opening.origin_x + along * opening.cosine - across * opening.sine
    y = opening.origin_y + along * opening.sine + across * opening.cosine
    pad = opening.softness + LIP_RIM * opening.unit + 1.0
    if opening.seam > 0.0:
        pad += SEAM_REACH * SEAM_ABOVE * opening.unit
    return (
        max(0, int(y.min() - pad)),
        min(height, int(y.max() + pad) + 1),
        max(0, int(x.min() - pad)),
        min(width, int(x.max() + pad) + 1),
    )
