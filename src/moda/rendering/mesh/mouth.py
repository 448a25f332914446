"""The inside of the mouth: teeth, tongue and the dark behind them, between the inner lips.

Nothing of it is in the photograph of a closed mouth, so it is modelled: teeth on an arch fixed to
the skull, teeth and a tongue fixed to the jaw, in colours measured from the portrait, shaded by
how much light the opening lets in. One pass over the pixels of the opening paints all layers.
All lengths are in canonical units (the distance of the outer eye corners) until they meet pixels.
"""

from __future__ import annotations

import numpy as np

from moda.rendering.mesh.complexion import blur_of, grain_of, measure_palette
from moda.rendering.mesh.geometry import FrameGeometry, Head, ease
from moda.rendering.mesh.lips import mouth_axes, open_share, paint_over_mouth
from moda.rendering.mesh.mouth_painting import (
    ArchView,
    Opening,
    Patch,
    Tongue,
    bounds_of_opening,
    lip_curves,
    paint_mouth,
)
from moda.rendering.mesh.teeth import (
    MILLIMETRE,
    Arch,
    ToothTexture,
    arc_lengths,
    find_real_teeth,
    seen_tooth_colour,
    tooth_texture,
)
from moda.rendering.mesh.warp import AffineMap
from moda.structures import Floats, Picture, Portrait
from moda.structures.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    MOUTH_CORNERS,
    Array,
    Similarity,
)

UPPER, LOWER = list(INNER_LIP_UPPER), list(INNER_LIP_LOWER)
UPPER_MIDDLE, LOWER_MIDDLE = [82, 13, 312], [87, 14, 317]
CHIN = [152, 175, 199, 200]

TEETH_BEHIND_LIPS, LOWER_BEHIND_LIPS = 0.045, 0.070
SMALLEST_PAINTED_GAP = 0.004
"""Below this gap nothing is seen between the lips."""
SEAM_SEEN = (0.01, 0.04)
"""Lip gaps between which the line on which lips meet disappears."""
TEETH_SOURCE_GAP = 0.035
"""From this gap on, the portrait's own teeth are looked for."""
LIT_GAPS = (0.05, 0.19)
"""Between these gaps more and more light reaches the back of the mouth."""
AVERAGE_LIP_WIDTH = 0.55

UPPER_EDGE_BELOW_LIP_LINE = 0.030
UPPER_EDGE_MOST_BELOW_LIP = 0.084
"""A raised lip shows at most this much tooth; beyond it the teeth go up with the lip."""
LOWER_EDGE_BELOW_LIP_LINE = 0.004
LOWER_TEETH_SEEN = (0.002, 0.014)
"""Least and most height of the lower teeth above the lower lip."""
LOWER_TEETH_SEEN_WIDE = 0.034
"""More of that height in a wide mouth, whose lower lip is drawn down."""
TONGUE_SHARE = (0.45, 0.72)
"""How high the tongue stands in a narrow and in a wide opening, in its height."""


class MouthInterior:
    """Paints the opening between the lips of one portrait.

    Args:
        plate: picture that is warped, (H, W, 3).
        landmarks: (478, 3) px of the plate.
        portrait: for the canonical shapes.
        rest: canonical coordinates to pixels of the plate.
        tooth_colour: (3,) where it is known from elsewhere.
    """

    def __init__(
        self,
        plate: Picture,
        landmarks: Array,
        portrait: Portrait,
        rest: Similarity,
        tooth_colour: Floats | None = None,
    ) -> None:
        self._plate = plate
        self._landmarks = landmarks
        self._rest = rest
        self._neutral = portrait.neutral_keypoints
        photographed = portrait.canonical_keypoints
        self._source_gap = float((photographed[LOWER, 1] - photographed[UPPER, 1]).max())
        self._source_upper = photographed[UPPER_MIDDLE, 1]
        self._lip_line = float(self._neutral[[13, 14], 1].mean())
        width = (
            float(np.linalg.norm(np.subtract(*self._neutral[list(MOUTH_CORNERS)])))
            / AVERAGE_LIP_WIDTH
        )
        self._size = float(np.clip(width, 0.75, 1.3))
        self._blur = blur_of(plate, landmarks, rest.scale)
        self._palette = measure_palette(plate, landmarks)
        if tooth_colour is not None:
            self._palette = self._palette.with_tooth_colour(tooth_colour)
        self._patch = Patch(np.zeros((1, 1, 4), np.float32), 0.0, 0.0)
        source_edge = None
        if self._source_gap > TEETH_SOURCE_GAP:
            source_edge = self._use_source_teeth(photographed)
        self._colours = self._palette.colours
        self._scratch = np.empty(3)
        self._open_share = open_share(photographed)
        self._grain = grain_of(plate, landmarks)
        self._upper, self._lower = self._arches(source_edge)
        millimetre_px = MILLIMETRE * self._size * rest.scale
        self._upper_texture = tooth_texture(True, self._blur / millimetre_px)
        self._lower_texture = tooth_texture(False, self._blur / millimetre_px)

    def _use_source_teeth(self, photographed: Array) -> float | None:
        """Take colour and picture of the portrait's own teeth; canonical height of their edge."""
        plate, landmarks = self._plate, self._landmarks
        colour = seen_tooth_colour(plate, landmarks, self._rest.scale, self._palette)
        if colour is None:
            return None
        real = find_real_teeth(plate, landmarks, self._rest, photographed, self._palette)
        self._palette = self._palette.with_tooth_colour(colour)
        if real is None:
            return None
        self._patch = Patch(real.patch, float(real.left), float(real.top))
        return real.edge_y

    def _arches(self, source_edge: float | None) -> tuple[Arch, Arch]:
        """Upper arch on the skull, lower arch on the jaw of the closed mouth."""
        size, neutral = self._size, self._neutral
        centre = neutral[[13, 14]].mean(0)
        edge = self._lip_line + UPPER_EDGE_BELOW_LIP_LINE * size + self._behind(TEETH_BEHIND_LIPS)
        if source_edge is not None:
            edge = max(source_edge, edge - 0.03)
        width, depth = 0.275 * size, 0.37 * size
        arc = arc_lengths(width, depth, MILLIMETRE * size)
        front = float(centre[2]) + TEETH_BEHIND_LIPS * size
        upper = Arch(float(centre[0]), edge, front, width, depth, 0.022 * size, arc)
        lower_arc = arc_lengths(0.95 * width, 0.95 * depth, MILLIMETRE * size)
        lower = Arch(
            float(centre[0]),
            self._lip_line + LOWER_EDGE_BELOW_LIP_LINE * size + self._behind(LOWER_BEHIND_LIPS),
            float(centre[2]) + LOWER_BEHIND_LIPS * size,
            0.95 * width,
            0.95 * depth,
            0.012 * size,
            lower_arc,
        )
        return upper, lower

    def base_texture(self) -> Picture:
        """The plate with an open mouth painted over, for warping (H, W, 3).

        Such lips have no line on which they meet; :meth:`draw` adds it.
        """
        if self._open_share == 0.0:
            return self._plate.copy()
        return paint_over_mouth(self._plate, self._landmarks, self._rest.scale, self._open_share)

    def draw(
        self, frame: Picture, geometry: FrameGeometry, painted_over: float | None = None
    ) -> None:
        """Paint the opening of one frame in place, or the line on which its lips meet.

        ``painted_over`` 0..1 is how far the lips of the frame lack that line; None: as the plate's.
        """
        shape = geometry.shape
        gap = float((shape[LOWER, 1] - shape[UPPER, 1]).max())
        seam = self._open_share if painted_over is None else painted_over
        seam *= 1.0 - ease(*SEAM_SEEN, gap)
        if gap < SMALLEST_PAINTED_GAP and seam == 0.0:
            return
        unit = self._rest.scale * geometry.head.scale
        opening, edges = self._opening(geometry, gap, unit, seam)
        view = _affine(geometry.head)
        jaw = (shape[CHIN] - self._neutral[CHIN]).mean(0)
        upper = self._upper._replace(edge_y=self._upper_edge(shape))
        lower_edge = self._lower_edge(shape, float(jaw[1]), gap)
        lower = self._lower._replace(
            centre_x=self._lower.centre_x + float(jaw[0]),
            front_z=self._lower.front_z + float(jaw[2]),
            edge_y=lower_edge,
        )
        scale = MILLIMETRE * self._size
        paint_mouth(
            frame,
            bounds_of_opening(opening, edges, frame.shape[1], frame.shape[0]),
            opening,
            edges,
            _arch_view(view, upper, self._upper_texture, scale, 1.0),
            _arch_view(view, lower, self._lower_texture, scale, -1.0),
            self._tongue(view, lower, gap, unit),
            self._colours,
            self._patch._replace(strength=self._real_share(shape)),
            AffineMap(*self._plate_from_frame(view).ravel().tolist()),
            self._grain,
            self._scratch,
        )

    def _opening(
        self, geometry: FrameGeometry, gap: float, unit: float, seam: float
    ) -> tuple[Opening, Floats]:
        """The lips' inner edges in a frame of axes along the mouth."""
        screen = geometry.screen.astype(np.float64)
        axes = mouth_axes(screen[[UPPER[0], UPPER[-1]]])
        upper, lower = (axes.along_across(screen[points]) for points in (UPPER, LOWER))
        start, step, edges = lip_curves(upper, lower)
        (cosine, _), (sine, _) = axes.turn
        light = 0.68 + 0.38 * ease(0.03, 0.14, gap) + 0.16 * _depth_light(gap)
        healing = 0.8 * float(np.clip((gap - 0.02) / 0.06, 0.0, 1.0))
        opening = Opening(
            float(axes.origin[0]), float(axes.origin[1]), float(cosine), float(sine), start, step,
            axes.half_width, unit, self._softness(unit), light, _depth_light(gap), healing, seam,
            self._palette.slant,
        )  # fmt: skip
        return opening, edges

    def _real_share(self, shape: Array) -> float:
        """How much of the real teeth to show: less where a raised lip shows what they lack."""
        raised = float((self._source_upper - shape[UPPER_MIDDLE, 1]).mean())
        return float(1.0 - 0.8 * np.clip((raised - 0.02) / 0.05, 0.0, 1.0))

    def _softness(self, unit: float) -> float:
        """Width in px of a ramp as soft as the photograph's edges."""
        return float(np.clip(2.6 * self._blur, 1.2, 4.0 * max(1.0, unit / 120.0)))

    def _behind(self, depth: float) -> float:
        """Change of height that keeps something ``depth`` behind the lips level with them.

        As the portrait's camera sees it: it may look at the face from above or below.
        """
        rotation = self._rest.rotation
        return float(-rotation[1, 2] / rotation[1, 1] * depth * self._size)

    def _upper_edge(self, shape: Array) -> float:
        lip = float(shape[UPPER_MIDDLE, 1].mean())
        most = lip + UPPER_EDGE_MOST_BELOW_LIP * self._size + self._behind(TEETH_BEHIND_LIPS)
        return _soft_minimum(self._upper.edge_y, most, 0.02)

    def _lower_edge(self, shape: Array, drop: float, gap: float) -> float:
        """Canonical height of the lower teeth: with the jaw, but never far from the lower lip."""
        lip = float(shape[LOWER_MIDDLE, 1].mean()) + self._behind(LOWER_BEHIND_LIPS)
        least, most = (seen * self._size for seen in LOWER_TEETH_SEEN)
        most += LOWER_TEETH_SEEN_WIDE * self._size * _depth_light(gap)
        edge = _soft_minimum(self._lower.edge_y + drop, lip - least, 0.01)
        return -_soft_minimum(-edge, most - lip, 0.01)

    def _tongue(self, view: Array, lower: Arch, gap: float, unit: float) -> Tongue:
        """A mound behind the lower teeth; a narrow opening shows little of it."""
        narrow, wide = TONGUE_SHARE
        seen = (narrow + (wide - narrow) * _depth_light(gap)) * gap
        height = 0.20 * self._size + 0.3 * gap
        centre = np.array([lower.centre_x, lower.edge_y + height - seen, lower.front_z + 0.10, 1])
        x, y = view @ centre
        width = (0.235 + 0.05 * _depth_light(gap)) * self._size
        return Tongue(float(x), float(y), width * unit, height * unit)

    def _plate_from_frame(self, view: Array) -> Array:
        """Affine (2, 3) from the frame to the plate for what is fixed to the front teeth."""
        upper = self._upper
        front = np.array([upper.centre_x, upper.edge_y, upper.front_z])
        rest = self._rest.scale * self._rest.rotation[:2]
        origin = rest @ front + self._rest.translation[:2]
        linear = rest[:, :2] @ np.linalg.inv(view[:, :2])
        moved = view @ np.append(front, 1.0)
        return np.column_stack([linear, origin - linear @ moved])


def _depth_light(gap: float) -> float:
    """How much light reaches the back of an opening, 0..1."""
    return ease(*LIT_GAPS, gap)


def _soft_minimum(first: float, second: float, width: float) -> float:
    """Smaller of two values, rounded off where they are within ``width`` of each other."""
    blend = max(0.0, 1.0 - abs(first - second) / width)
    return min(first, second) - 0.25 * width * blend * blend


def _affine(head: Head) -> Array:
    """The projection as a matrix (2, 4): canonical x, y, z, 1 to pixels."""
    points = head.project(np.concatenate([np.zeros((1, 3)), np.eye(3)]))[:, :2]
    return np.column_stack([(points[1:] - points[0]).T, points[0]])


def _arch_view(
    view: Array, arch: Arch, texture: ToothTexture, millimetre: float, direction: float
) -> ArchView:
    """What the painting kernel needs to find the point of an arch that a pixel shows.

    Along a vertical line of the arch only y changes. Eliminating it from the two equations of
    the projection leaves ``reach * sin(angle - phase) = across . (x, y, 1)``.
    """
    (a, b, c, e), (f, g, h, i) = view
    on_x, on_z = g * a - b * f, g * c - b * h
    along_x, along_z = on_x * arch.width, on_z * arch.depth
    constant = g * e - b * i + on_x * arch.centre_x + on_z * (arch.front_z + arch.depth)
    return ArchView(
        float(g),
        -float(b),
        -float(constant),
        float(np.hypot(along_x, along_z)),
        float(np.arctan2(along_z, along_x)),
        *(float(f), float(g), float(h), float(i)),
        *(arch.centre_x, arch.edge_y, arch.front_z, arch.width, arch.depth, arch.rise),
        millimetre,
        direction,
        arch.arc,
        texture.looks,
        texture.edge,
    )
