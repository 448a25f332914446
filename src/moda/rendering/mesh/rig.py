"""What moves with what: the face mesh extended over the whole box, prepared once per portrait.

The 468 face points carry the expression and the pose. Around them lies a grid of *outer* points -
hair, ears, neck, background - which follow by three harmonic fields:

- ``follow``: the displacement of the face outline, fading outwards (the jaw pulls the neck along);
- ``rigid``: the share of the head's rigid motion, 1 on the head, 0 on the border of the box;
- a depth, from the outline's own to that of the head's centre, so that turning hardly slides hair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from moda.rendering.mesh.geometry import Head
from moda.rendering.mesh.plate import Plate
from moda.rendering.mesh.warp import keep_edge_lengths, keep_triangle_areas
from moda.structures.landmarks import (
    FACE_OVAL,
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    LEFT_BROW,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    NECK_PIVOT,
    NUM_SURFACE,
    RIGHT_BROW,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    Array,
)

GRID_STEP = 0.13
"""Spacing of the outer points. All lengths here are in eye distances (canonical units)."""
PADDING = 0.5
"""How far the grid goes on beyond a free side of the box."""
HEAD_CENTRE_DEPTH = NECK_PIVOT[2]
FOLLOW_DECAY = 0.42
BEHIND_FACE = 0.04
"""The outer mesh lies this much behind the face, which so wins where both cover a pixel."""
LEAST_AREA = 0.06
"""Least area of a face triangle on the plate, in that of the mean face seen from the front."""
UPPER_LID_SHARE = 0.88
"""Of a blink's way; the lower lid comes up for the rest."""

OVAL = np.array(FACE_OVAL)
OPENINGS = (
    *INNER_LIP_UPPER[1:-1],
    *INNER_LIP_LOWER[1:-1],
    *RIGHT_EYE_UPPER[1:-1],
    *RIGHT_EYE_LOWER[1:-1],
    *LEFT_EYE_UPPER[1:-1],
    *LEFT_EYE_LOWER[1:-1],
)
"""Lips and lids meet exactly, and so never give way to a fold; their corners may."""
EYES = (
    (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER, RIGHT_BROW),
    (LEFT_EYE_UPPER, LEFT_EYE_LOWER, LEFT_BROW),
)


@dataclass(frozen=True)
class Blink:
    """How the points around one eye move when it closes: ``y += closing * matrix @ y[lids]``.

    It is linear in the lids' present height, and so closes exactly whatever the expression does.
    """

    points: NDArray[np.intp]
    lids: NDArray[np.intp]
    matrix: Array  # (points, lids)
    is_lower: NDArray[np.bool_]
    """(points,) which come up when the eye closes"""
    gap: float
    """Mean opening of the lids in the photograph, canonical units"""

    def apply(
        self, shape: Array, closing: float, lower_share: float = 1.0 - UPPER_LID_SHARE
    ) -> None:
        """Close the eye, 0 open .. 1 closed, on vertices (468, 3) in place.

        Negative amounts open it wider. ``lower_share`` is the lower lid's part of the way.
        """
        upper, lower = (1.0 - lower_share) / UPPER_LID_SHARE, lower_share / (1.0 - UPPER_LID_SHARE)
        way = self.matrix @ shape[self.lids, 1] * np.where(self.is_lower, lower, upper)
        shape[self.points, 1] += closing * way


@dataclass(frozen=True)
class Rig:
    """The mesh of one portrait on one plate. V = 468 + M vertices."""

    photographed: Array  # (468, 3) canonical, as in the photograph
    neutral: Array  # (468, 3) the same with the mouth closed
    outer: Array  # (M, 3) canonical
    pixels: Array  # (V, 2) where the vertices are on the plate at rest
    triangles: NDArray[np.int32]  # (N, 3) outer, face and the holes of the eyes and the mouth
    solid: NDArray[np.int32]
    """(N, 3) the first of the triangles, without those of the holes"""
    follow: Array  # (M, 36)
    rigid: Array  # (M,)
    jaw_edges: NDArray[np.int32]
    outer_edges: NDArray[np.int32]
    outer_mobility: Array  # (V,)
    mobility: Array
    """(V,) what gives way to a fold: all but lips, lids and the border of the box"""
    blinks: tuple[Blink, Blink]
    """Right and left eye"""

    @property
    def pivot(self) -> Array:
        return np.array(NECK_PIVOT)

    def project(self, shape: Array, head: Head) -> NDArray[np.float32]:
        """Canonical face (468, 3) and the head's motion to plate pixels and depth (V, 3)."""
        face = head.project(shape)
        outline = (shape - self.photographed)[OVAL]
        outer = self.outer + self.follow @ outline
        still, moved = head.rest.apply(outer), head.project(outer)
        outer_screen = still + self.rigid[:, None] * (moved - still)
        outer_screen[:, 2] = moved[:, 2] + BEHIND_FACE * head.rest.scale
        screen = np.concatenate([face, outer_screen])
        keep_edge_lengths(screen, self.pixels, self.outer_edges, self.outer_mobility, 0.30, 4, 0.8)
        keep_triangle_areas(screen, self.pixels, self.solid, self.mobility, 0.05, 40)
        return screen.astype(np.float32)


def build_rig(
    plate: Plate,
    neutral_offset: Array,
    canonical_face: Array,
    surface_triangles: NDArray[np.int32],
) -> Rig:
    """Prepare the mesh; takes about 0.1 s.

    ``neutral_offset`` (468, 3): what closes the photographed mouth, canonical units.
    """
    face = _unfold(plate, canonical_face, surface_triangles)
    photographed = plate.rest.invert(face)
    neutral = photographed + neutral_offset
    points, pinned = _outer_points(plate, face[OVAL, :2])
    outer_triangles = _outer_triangles(face[OVAL, :2], points)
    pixels = np.concatenate([face[:, :2], points])
    fields = _Fields(plate, pixels, outer_triangles, np.flatnonzero(pinned) + NUM_SURFACE)
    depth = fields.depth(photographed[OVAL, 2])
    solid = np.concatenate([outer_triangles, surface_triangles])
    jaw = canonical_face[:NUM_SURFACE, 1] > 0.35
    face_edges = _edges(surface_triangles)
    outer_mobility = np.concatenate([np.zeros(NUM_SURFACE), np.where(pinned, 0.0, 1.0)])
    mobility = np.concatenate([np.ones(NUM_SURFACE), outer_mobility[NUM_SURFACE:]])
    mobility[[*OPENINGS]] = 0.0
    return Rig(
        photographed=photographed,
        neutral=neutral,
        outer=_lift(plate, points, depth),
        pixels=pixels,
        triangles=np.concatenate([solid, _hole_triangles()]),
        solid=solid,
        follow=fields.follow(),
        rigid=fields.rigid(),
        jaw_edges=np.ascontiguousarray(face_edges[jaw[face_edges].all(1)], np.int32),
        outer_edges=_edges(outer_triangles),
        outer_mobility=outer_mobility,
        mobility=mobility,
        blinks=(_blink(photographed, *EYES[0]), _blink(photographed, *EYES[1])),
    )


def smoothstep(low: float, high: float, value: NDArray[np.floating[Any]] | float) -> Array:
    """0 below ``low``, 1 above ``high``, smooth in between."""
    t = np.clip((np.asarray(value) - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


# ---------------------------------------------------------------------------- outer mesh


def _unfold(plate: Plate, canonical_face: Array, triangles: NDArray[np.int32]) -> Array:
    """Face points (468, 3) on the plate, moved so that no triangle is turned over or edge-on.

    The far cheek of a three-quarter portrait hides points of the mesh. They are spread in front of
    the outline; the whole picture is then one sheet, and turning the head opens no gaps in it.
    """
    face = plate.landmarks[:NUM_SURFACE].copy()
    mobility = np.ones(NUM_SURFACE)
    mobility[[*OPENINGS]] = 0.0
    frontal = canonical_face[:NUM_SURFACE] * plate.rest.scale
    keep_triangle_areas(face, frontal, triangles, mobility, LEAST_AREA, 300)
    return face


def _outer_points(plate: Plate, oval: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Grid over the box and a ring close around the face: points (M, 2) and which are pinned."""
    unit = plate.rest.scale
    step, padding = GRID_STEP * unit, PADDING * unit
    box = plate.box
    low_x = box.left - padding * ("left" in plate.free_sides)
    low_y = box.top - padding * ("top" in plate.free_sides)
    high_x = box.right - 1 + padding * ("right" in plate.free_sides)
    columns = np.linspace(low_x, high_x, max(4, round((high_x - low_x) / step) + 1))
    rows = np.linspace(low_y, box.bottom - 1, max(4, round((box.bottom - 1 - low_y) / step) + 1))
    grid = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
    outside = _distance_outside(oval, grid) > 0.75 * step
    on_side = (
        ((grid[:, 0] == low_x) & ("left" not in plate.free_sides))
        | ((grid[:, 1] == low_y) & ("top" not in plate.free_sides))
        | ((grid[:, 0] == high_x) & ("right" not in plate.free_sides))
        | (grid[:, 1] == box.bottom - 1)
    )
    kept = outside | on_side
    tangent = np.roll(oval, -1, 0) - np.roll(oval, 1, 0)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    normal *= np.sign(((oval - oval.mean(0)) * normal).sum(1, keepdims=True))
    ring = oval + normal * 0.45 * step
    inside_box = (
        (ring[:, 0] > low_x + 0.2 * step)
        & (ring[:, 1] > low_y + 0.2 * step)
        & (ring[:, 0] < high_x - 0.2 * step)
        & (ring[:, 1] < box.bottom - 1 - 0.2 * step)
        & (_distance_outside(oval, ring) > 0.2 * step)
    )
    points = np.concatenate([ring[inside_box], grid[kept]])
    pinned = np.concatenate([np.zeros(int(inside_box.sum()), bool), on_side[kept]])
    return points, pinned


def _distance_outside(polygon: Array, points: Array) -> Array:
    """Signed distance (N,) in pixels of points from a polygon, positive outside."""
    contour = polygon.astype(np.float32).reshape(-1, 1, 2)
    return -np.array([cv2.pointPolygonTest(contour, (float(x), float(y)), True) for x, y in points])


def _outer_triangles(oval: Array, points: Array) -> NDArray[np.int32]:
    """Delaunay triangles between the face outline and the outer points, as vertex indices."""
    found = Delaunay(np.concatenate([oval, points])).simplices
    corners = np.concatenate([oval, points])[found]
    edge_one, edge_two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.abs(edge_one[:, 0] * edge_two[:, 1] - edge_one[:, 1] * edge_two[:, 0])
    only_oval = (found < len(oval)).all(1)
    outside = _distance_outside(oval, corners.mean(1)) > 0
    found = found[(outside | ~only_oval) & (area > 1e-6)]
    index = np.concatenate([OVAL, NUM_SURFACE + np.arange(len(points))])
    return index[found].astype(np.int32)


def _hole_triangles() -> NDArray[np.int32]:
    """Strips that fill the mouth and the eyes."""
    triangles: list[tuple[int, int, int]] = []
    for upper, lower in (
        (INNER_LIP_UPPER, INNER_LIP_LOWER),
        (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER),
        (LEFT_EYE_UPPER, LEFT_EYE_LOWER),
    ):
        for a, b, c, d in zip(upper[:-1], upper[1:], lower[1:], lower[:-1], strict=True):
            triangles += [t for t in ((a, b, c), (a, c, d)) if len(set(t)) == 3]
    return np.array(triangles, np.int32)


def _edges(triangles: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each edge (E, 2) of a triangle list once."""
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    return np.ascontiguousarray(np.unique(np.sort(pairs, axis=1), axis=0), np.int32)


def _lift(plate: Plate, points: Array, depth: Array) -> Array:
    """Canonical positions (M, 3) that lie at these pixels and at these canonical depths."""
    rotation, scale = plate.rest.rotation, plate.rest.scale
    shift = points - plate.rest.translation[:2]
    screen_depth = (depth * scale - shift @ rotation[:2, 2]) / rotation[2, 2]
    return np.column_stack([shift, screen_depth]) @ rotation / scale


# ---------------------------------------------------------------------------- fields


class _Fields:
    """Smooth fields over the outer mesh, by sparse linear systems on its edges."""

    def __init__(
        self,
        plate: Plate,
        pixels: Array,
        triangles: NDArray[np.int32],
        pinned: NDArray[np.intp],
    ) -> None:
        self._plate = plate
        self._pixels = pixels
        self._pinned = pinned
        self._unit = plate.rest.scale
        edges = _edges(triangles)
        length = np.linalg.norm(pixels[edges[:, 0]] - pixels[edges[:, 1]], axis=1) / self._unit
        weight = 1.0 / np.maximum(0.04, length)
        rows = np.concatenate([edges[:, 0], edges[:, 1]])
        columns = np.concatenate([edges[:, 1], edges[:, 0]])
        count = len(pixels)
        self._adjacency = scipy.sparse.coo_array(
            (np.concatenate([weight, weight]), (rows, columns)), shape=(count, count)
        ).tocsr()
        self._degree = np.asarray(self._adjacency.sum(1)).ravel()
        self._screening = (
            0.5 * (GRID_STEP / FOLLOW_DECAY) ** 2 * float(np.median(self._degree[self._degree > 0]))
        )

    def follow(self) -> Array:
        """(M, 36): how each outer point follows each point of the face outline."""
        fixed = np.concatenate([OVAL, self._pinned])
        values = np.concatenate([np.eye(len(OVAL)), np.zeros((len(self._pinned), len(OVAL)))])
        return self._solve(fixed, values, self._screening)

    def depth(self, outline: Array) -> Array:
        """(M,) canonical depth: the outline's (36,), fading to the head's centre."""
        fixed = np.concatenate([OVAL, self._pinned])
        values = np.append(outline - HEAD_CENTRE_DEPTH, np.zeros(len(self._pinned)))
        return HEAD_CENTRE_DEPTH + self._solve(fixed, values[:, None], 2 * self._screening)[:, 0]

    def rigid(self) -> Array:
        """(M,) share of the head's rigid motion."""
        points = self._pixels[NUM_SURFACE:]
        landmarks, unit = self._plate.landmarks, self._unit
        distance = _distance_outside(self._pixels[OVAL], points) / unit
        chin = landmarks[152, 1]
        below = smoothstep(chin - 0.55 * unit, chin + 0.05 * unit, points[:, 1])
        head = 1 - smoothstep(0.9, 1.7, distance)
        body = 1 - smoothstep(0.04, 0.85, distance)
        share = head * (1 - below) + body * below
        person = self._person(points, distance) > 0.5
        known = np.flatnonzero(person) + NUM_SURFACE
        known = known[~np.isin(known, self._pinned)]
        fixed = np.concatenate([OVAL, self._pinned, known])
        values = np.concatenate(
            [np.ones(len(OVAL)), np.zeros(len(self._pinned)), share[known - NUM_SURFACE]]
        )
        return np.clip(self._solve(fixed, values[:, None], 1e-9)[:, 0], 0.0, 1.0)

    def _person(self, points: Array, distance: Array) -> Array:
        """Person mask at the outer points; a drawn head and shoulders where the mask is empty."""
        landmarks = self._plate.landmarks
        if self._plate.person_at(landmarks[OVAL, :2]).mean() > 0.3:
            return self._plate.person_at(points)
        chin, centre = landmarks[152], landmarks[:NUM_SURFACE].mean(0)
        shoulders = (points[:, 1] > chin[1]) & (
            np.abs(points[:, 0] - centre[0]) < 0.7 * self._unit + 1.2 * (points[:, 1] - chin[1])
        )
        return np.where((distance < 0.55) | shoulders, 1.0, 0.0)

    def _solve(self, fixed: NDArray[np.intp], values: Array, screening: float) -> Array:
        """Harmonic (or screened) interpolation of values (F, C) at fixed vertices -> (M, C)."""
        used = np.concatenate([OVAL, np.arange(NUM_SURFACE, len(self._pixels))])
        free = np.setdiff1d(used, fixed)
        laplacian = scipy.sparse.diags_array(self._degree + screening) - self._adjacency
        laplacian = laplacian.tocsr()
        result = np.zeros((len(self._pixels), values.shape[1]))
        result[fixed] = values
        if len(free):
            right_side = -(laplacian[free][:, fixed] @ values)
            solve = scipy.sparse.linalg.splu(laplacian[free][:, free].tocsc())
            result[free] = solve.solve(right_side)
        return result[NUM_SURFACE:]


# ---------------------------------------------------------------------------- lids


def _blink(
    face: Array, upper: tuple[int, ...], lower: tuple[int, ...], brow: tuple[int, ...]
) -> Blink:
    """Closing motion around one eye, from the photographed face (468, 3)."""
    upper_order = np.array(sorted(upper, key=lambda point: float(face[point, 0])))
    lower_order = np.array(sorted(lower, key=lambda point: float(face[point, 0])))
    lids = np.unique(np.concatenate([upper_order, lower_order]))
    column = {int(point): k for k, point in enumerate(lids)}

    def height(order: NDArray[np.intp], x: float) -> Array:
        """Row that takes the height of a lid line at ``x`` from the lids' heights."""
        row = np.zeros(len(lids))
        places = face[order, 0]
        for k, point in enumerate(order):
            row[column[int(point)]] += np.interp(x, places, np.eye(len(order))[k])
        return row

    left, right = face[upper_order[0], 0], face[upper_order[-1], 0]
    low_brow = float(np.sort(face[list(brow), 1])[-5:].mean())
    points: list[int] = []
    rows: list[Array] = []
    is_lower: list[bool] = []
    for point in range(NUM_SURFACE):
        x, y = face[point, :2]
        share = _blink_share(point, x, y, face, upper, lower, (left, right, low_brow))
        if share == 0.0:
            continue
        here = float(np.clip(x, left, right))
        points.append(point)
        is_lower.append(share < 0.0)
        rows.append(share * (height(lower_order, here) - height(upper_order, here)))
    opening = face[list(lower[1:-1]), 1] - face[list(upper[1:-1]), 1]
    gap = float(max(opening.mean(), 0.01))
    return Blink(np.array(points), lids, np.array(rows), np.array(is_lower), gap)


def _blink_share(
    point: int,
    x: float,
    y: float,
    face: Array,
    upper: tuple[int, ...],
    lower: tuple[int, ...],
    limits: tuple[float, float, float],
) -> float:
    """Share of the lid gap by which a point goes down (negative: up) in a full blink."""
    left, right, low_brow = limits
    if point in (upper[0], upper[-1]):
        return 0.0
    if point in upper:
        return UPPER_LID_SHARE
    if point in lower:
        return UPPER_LID_SHARE - 1.0
    beside = max(left - x, x - right, 0.0)
    aside = float(1 - smoothstep(0, 0.12 * (right - left), beside))
    if aside == 0.0:
        return 0.0
    order = sorted(upper, key=lambda p: float(face[p, 0]))
    top = float(np.interp(x, face[order, 0], face[order, 1]))
    order = sorted(lower, key=lambda p: float(face[p, 0]))
    bottom = float(np.interp(x, face[order, 0], face[order, 1]))
    if low_brow - 0.05 < y < top:
        rise = np.clip((top - y) / max(top - low_brow, 0.05) / 0.95, 0, 1)
        return float(UPPER_LID_SHARE * (1 - rise) ** 1.1 * aside)
    if bottom < y < bottom + 0.2:
        return float((UPPER_LID_SHARE - 1.0) * (1 - smoothstep(0, 0.18, y - bottom)) * aside)
    return 0.0
