"""The kernel that paints the inside of the mouth, pixel by pixel, all layers in one pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moda.rendering.compiled import compiled
from moda.rendering.mesh.complexion import Palette
from moda.rendering.mesh.teeth import MIDLINE_MILLIMETRES, TEXELS_PER_MILLIMETRE
from moda.rendering.mesh.warp import ease
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
LIP_RIM = 0.015
"""Width of the lower lip's innermost rim, canonical units."""


class Opening(NamedTuple):
    """The hole between the lips, in axes along (x) and across (y) the mouth, in px."""

    origin_x: float
    origin_y: float
    cosine: float
    sine: float
    start: float
    step: float
    edges: Floats
    """(N, 4): y of the upper and of the lower lip, and the cosines of their slopes"""
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


class ArchView(NamedTuple):
    """An arch of teeth as the camera sees it; see ``mouth._arch_view``."""

    across: Array  # (3,)
    reach: float
    phase: float
    down: Array  # (4,) canonical x, y, z, 1 -> pixel row
    shape: Array  # (6,) centre x, edge y, front z, width, depth, rise
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
    _tabulate(upper, start, end, table, 0)
    _tabulate(lower, start, end, table, 1)
    return start, (end - start) / (count - 1), table


@compiled
def _tabulate(points: Array, start: float, end: float, table: Floats, column: int) -> None:
    """Cubic Hermite curve through points, forced to run to the right, at even steps of x."""
    n = len(points)
    x = points[:, 0].copy()
    y = points[:, 1]
    least = (end - start) * 1e-3
    for k in range(1, n):
        x[k] = max(x[k], x[k - 1] + least)
    slope = np.empty(n)
    for k in range(n):
        before, after = max(k - 1, 0), min(k + 1, n - 1)
        slope[k] = (y[after] - y[before]) / (x[after] - x[before])
    span = 0
    count = len(table)
    for i in range(count):
        at = start + (end - start) * i / (count - 1)
        while span < n - 2 and at > x[span + 1]:
            span += 1
        width = x[span + 1] - x[span]
        t = min(max((at - x[span]) / width, 0.0), 1.0)
        a = (1 + 2 * t) * (1 - t) * (1 - t)
        b = t * (1 - t) * (1 - t) * width
        c = t * t * (3 - 2 * t)
        d = t * t * (t - 1) * width
        table[i, column] = a * y[span] + b * slope[span] + c * y[span + 1] + d * slope[span + 1]
        steep = (y[span + 1] - y[span]) / width
        table[i, 2 + column] = 1.0 / np.sqrt(1.0 + steep * steep)


@compiled
def _mix(colour: Array, other: Floats, gain: float, weight: float) -> None:
    for c in range(3):
        colour[c] += (other[c] * gain - colour[c]) * weight


@compiled
def _look_at_arch(arch: ArchView, x: float, y: float, out: Array) -> None:
    """What of an arch pixel (x, y) shows.

    ``out``: millimetres from the biting edge towards the gum, brightness, gum share, cosine of
    the angle at which the teeth turn away.
    """
    side = (arch.across[0] * x + arch.across[1] * y + arch.across[2]) / arch.reach
    angle = arch.phase + np.arcsin(min(max(side, -0.999), 0.999))
    sine, cosine = np.sin(angle), np.cos(angle)
    centre_x, edge_y, front_z = arch.shape[0], arch.shape[1], arch.shape[2]
    point_x = centre_x + arch.shape[3] * sine
    point_z = front_z + arch.shape[4] * (1.0 - cosine)
    row = arch.down
    point_y = (y - row[3] - row[0] * point_x - row[2] * point_z) / row[1]
    edge_y -= arch.shape[5] * sine * sine
    last = len(arch.arc) - 1
    at = min(abs(angle) / (0.5 * np.pi), 0.9999) * last
    k = int(at)
    along = arch.arc[k] + (arch.arc[k + 1] - arch.arc[k]) * (at - k)
    if angle < 0.0:
        along = -along
    rows, columns = arch.looks.shape[0], arch.looks.shape[1]
    column = min(
        max((along + MIDLINE_MILLIMETRES) * TEXELS_PER_MILLIMETRE - 0.5, 0.0), columns - 1.001
    )
    i = int(column)
    u = column - i
    height = arch.direction * (edge_y - point_y) / arch.millimetre
    row_at = min(max(height * TEXELS_PER_MILLIMETRE - 0.5, 0.0), rows - 1.001)
    j = int(row_at)
    v = row_at - j
    out[0] = height - (arch.edge[i] + (arch.edge[i + 1] - arch.edge[i]) * u)
    for c in range(2):
        top = arch.looks[j, i, c] + (arch.looks[j, i + 1, c] - arch.looks[j, i, c]) * u
        low = arch.looks[j + 1, i, c] + (arch.looks[j + 1, i + 1, c] - arch.looks[j + 1, i, c]) * u
        out[1 + c] = top + (low - top) * v
    out[3] = max(cosine, 0.0)


@compiled
def _paint_tongue(
    colour: Array, tongue: Tongue, palette: Palette, x: float, y: float, depth_light: float
) -> None:
    """A mound lit from the front; it sinks into the dark at its back and sides."""
    u, v = x / tongue.width, y / tongue.height
    back = -1.0 + 0.55 * abs(u) ** 2.6
    cover = ease(back - 0.08, back + 0.26, v) * (1.0 - ease(0.75, 1.12, abs(u)))
    if cover <= 0.0:
        return
    deep = (v - back) / (0.2 - back)
    shade = 0.34 + 0.70 * ease(-0.05, 0.75, deep)
    shade *= 1.0 - (0.40 - 0.15 * depth_light) * min(abs(u), 1.0) ** 2.0
    shade *= 1.0 - 0.09 * np.exp(-((u / 0.13) ** 2)) * ease(0.10, 0.5, deep)
    shade *= (1.0 - 0.22 * ease(0.75, 1.2, deep)) * (0.62 + 0.72 * depth_light)
    wet = 0.10 * np.exp(-(((abs(u) - 0.25) / 0.22) ** 2) - ((deep - 0.62) / 0.16) ** 2)
    _mix(colour, palette.tongue, shade + wet, cover)


@compiled
def _real_teeth(patch: Patch, x: float, y: float, out: Array) -> float:
    """Colour of the portrait's own teeth at plate position (x, y); returns the coverage."""
    column, row = x - patch.left, y - patch.top
    height, width = patch.pixels.shape[0], patch.pixels.shape[1]
    if column < 0.0 or row < 0.0 or column >= width - 1 or row >= height - 1:
        return 0.0
    i, j = int(column), int(row)
    u, v = column - i, row - j
    cover = 0.0
    for c in range(4):
        top = patch.pixels[j, i, c] * (1.0 - u) + patch.pixels[j, i + 1, c] * u
        low = patch.pixels[j + 1, i, c] * (1.0 - u) + patch.pixels[j + 1, i + 1, c] * u
        value = top + (low - top) * v
        if c < 3:
            out[c] = value
        else:
            cover = value
    return cover


@compiled
def paint_mouth(
    frame: Picture,
    opening: Opening,
    upper: ArchView,
    lower: ArchView,
    tongue: Tongue,
    palette: Palette,
    patch: Patch,
    plate_from_frame: Array,
    grain: Floats,
) -> None:
    """Paint every pixel of the opening: dark, tongue, lower teeth, upper teeth, rim of the lips."""
    left, top, right, bottom = _bounds(opening, frame.shape[1], frame.shape[0])
    colour, seen, real = np.empty(3), np.empty(4), np.empty(3)
    unit = opening.unit
    count = len(opening.edges)
    for y in range(top, bottom):
        for x in range(left, right):
            along = (x - opening.origin_x) * opening.cosine + (y - opening.origin_y) * opening.sine
            across = (y - opening.origin_y) * opening.cosine - (x - opening.origin_x) * opening.sine
            at = (along - opening.start) / opening.step
            if at < 0.0 or at >= count - 1:
                continue
            k = int(at)
            t = at - k
            up, low = opening.edges[k], opening.edges[k + 1]
            below_upper = (across - up[0] - (low[0] - up[0]) * t) * up[2]
            above_lower = (up[1] + (low[1] - up[1]) * t - across) * up[3]
            if opening.seam > 0.0:
                side = abs(along / opening.half_width)
                _darken_seam(frame, opening, palette, x, y, below_upper, above_lower, side)
            if opening.healing > 0.0 and below_upper > 0.0:
                _heal_lip(frame, opening, x, y, above_lower, along / opening.half_width)
            cover = min(max(0.5 + below_upper / opening.softness, 0.0), 1.0)
            cover += min(max(0.5 + above_lower / opening.softness, 0.0), 1.0) - 1.0
            if cover <= 0.0:
                continue
            below, above = max(below_upper, 0.0) / unit, max(above_lower, 0.0) / unit
            side = along / opening.half_width
            inner = opening.depth_light
            _paint_cavity(colour, palette, side, below, above, inner)
            _paint_tongue(colour, tongue, palette, x - tongue.x, y - tongue.y, inner)
            light = opening.light * (1.0 + palette.slant * side)
            light *= 1.0 - (0.75 - 0.45 * inner) * ease(0.35, 1.0, abs(side))
            _look_at_arch(lower, x, y, seen)
            lower_light = light * (0.64 + 0.16 * inner)
            _paint_row(colour, lower, palette, seen, opening, lower_light, 0.25, above)
            _look_at_arch(upper, x, y, seen)
            if seen[0] < 0.0:
                shadow = 1.0 - (0.45 - 0.20 * inner) * np.exp(seen[0] / 3.5)
                for c in range(3):
                    colour[c] *= shadow
            plate_x = (
                plate_from_frame[0, 0] * x + plate_from_frame[0, 1] * y + plate_from_frame[0, 2]
            )
            plate_y = (
                plate_from_frame[1, 0] * x + plate_from_frame[1, 1] * y + plate_from_frame[1, 2]
            )
            _paint_row(colour, upper, palette, seen, opening, light, 0.75 - 0.50 * inner, below)
            share = patch.strength * _real_teeth(patch, plate_x, plate_y, real)
            if share > 0.0:
                gain = 1.0 - 0.35 * np.exp(-below / 0.02)
                for c in range(3):
                    colour[c] += (real[c] * gain - colour[c]) * share
            _paint_rim(colour, palette, below, above)
            noise = grain[int(plate_y) % len(grain), int(plate_x) % len(grain)]
            noise *= min(1.0, 0.15 + 0.85 * colour[1] / palette.skin[1])
            for c in range(3):
                value = frame[y, x, c] + (colour[c] + noise - frame[y, x, c]) * cover
                frame[y, x, c] = np.uint8(min(max(value + 0.5, 0.0), 255.0))


@compiled
def _darken_seam(
    frame: Picture,
    opening: Opening,
    palette: Palette,
    x: int,
    y: int,
    below_upper: float,
    above_lower: float,
    side: float,
) -> None:
    """Less light reaches the lips towards the line on which they meet."""
    above, below = max(-below_upper, 0.0) / SEAM_ABOVE, max(-above_lower, 0.0) / SEAM_BELOW
    distance = max(above, below) / opening.unit
    if distance > SEAM_REACH:
        return
    share = opening.seam * np.exp(-distance * distance) * (1.0 - ease(SEAM_CORNER, 1.0, side))
    for c in range(3):
        own = float(frame[y, x, c])
        frame[y, x, c] = np.uint8(own + (min(own, palette.seam[c]) - own) * share + 0.5)


@compiled
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


@compiled
def _bounds(opening: Opening, width: int, height: int) -> tuple[int, int, int, int]:
    """Box of pixels that holds the opening, within the picture."""
    low_x, low_y, high_x, high_y = 1e9, 1e9, -1e9, -1e9
    for k in range(len(opening.edges)):
        along = opening.start + opening.step * k
        for c in range(2):
            across = opening.edges[k, c]
            x = opening.origin_x + along * opening.cosine - across * opening.sine
            y = opening.origin_y + along * opening.sine + across * opening.cosine
            low_x, high_x = min(low_x, x), max(high_x, x)
            low_y, high_y = min(low_y, y), max(high_y, y)
    pad = opening.softness + LIP_RIM * opening.unit + 1.0
    if opening.seam > 0.0:
        pad += SEAM_REACH * SEAM_ABOVE * opening.unit
    return (
        max(0, int(low_x - pad)),
        max(0, int(low_y - pad)),
        min(width, int(high_x + pad) + 1),
        min(height, int(high_y + pad) + 1),
    )


@compiled
def _paint_cavity(
    colour: Array, palette: Palette, side: float, below: float, above: float, depth_light: float
) -> None:
    """The dark at the back, a little lighter on the floor and where the cheeks come in."""
    down = below / (below + above + 1e-6)
    lit = 0.50 * down * down * (1.0 - side * side) + 0.35 * np.exp(-above / 0.03)
    lit += 0.30 * ease(0.45, 0.9, abs(side)) * ease(0.02, 0.09, min(below, above))
    lit = min(lit, 1.0)
    lit += (NARROW_LIGHT + (WIDE_LIGHT - NARROW_LIGHT) * depth_light) * (1.0 - 0.6 * lit)
    for c in range(3):
        colour[c] = palette.deep[c] + (palette.wall[c] - palette.deep[c]) * lit


@compiled
def _paint_row(
    colour: Array,
    arch: ArchView,
    palette: Palette,
    seen: Array,
    opening: Opening,
    light: float,
    lip_shadow: float,
    from_lip: float,
) -> None:
    """One row of teeth, shaded by the lip it grows from."""
    pixels_per_millimetre = opening.unit * arch.millimetre
    soft = max(opening.softness, 0.9) / pixels_per_millimetre
    cover = min(max(0.5 + seen[0] / soft, 0.0), 1.0)
    if cover <= 0.0:
        return
    gain = light * (0.30 + 0.70 * seen[3] ** 1.4)
    gain *= 1.0 - lip_shadow * np.exp(-from_lip / 0.022)
    gum = seen[2]
    warmth = max(1.0 - gain, 0.0)
    for c in range(3):
        value = palette.tooth[c] * seen[1] * (1.0 - gum) + palette.gum[c] * gum
        shade = gain * (1.0 + (palette.flush[c] - 1.0) * warmth)
        colour[c] += (value * shade - colour[c]) * cover


@compiled
def _paint_rim(colour: Array, palette: Palette, below: float, above: float) -> None:
    """The lips roll inwards: a dark rim under the upper one, a moist one on the lower."""
    _mix(colour, palette.lip, 0.40, 0.50 * np.exp(-below / 0.008))
    _mix(colour, palette.lip, 0.86, 0.85 * np.exp(-above / 0.012))
    _mix(colour, palette.seam, 0.9, 0.8 * (1.0 - ease(*NARROW_GAPS, below + above)))
