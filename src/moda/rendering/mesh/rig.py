"""What moves with what: the face mesh extended over the whole box, prepared once per portrait.

The 468 face points carry the expression and the pose. Around them lies a grid of *outer* points,
which follow (:mod:`moda.rendering.mesh.outer_mesh`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moda.rendering.mesh.geometry import Head, smoothstep
from moda.rendering.mesh.outer_mesh import OVAL, build_outer_mesh, mesh_edges
from moda.rendering.mesh.plate import Plate
from moda.rendering.mesh.warp import bounds_around, keep_edge_lengths, keep_triangle_areas
from moda.rendering.placing import Box
from moda.structures.landmarks import (
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

BEHIND_FACE = 0.04
"""The outer mesh lies this much behind the face, which so wins where both cover a pixel.
In eye distances, canonical units."""
LEAST_AREA = 0.06
"""Least area of a face triangle on the plate, in that of the mean face seen from the front."""
UPPER_LID_SHARE = 0.88
"""Of a blink's way; the lower lid comes up for the rest."""
LID_STRETCH = 1.8
"""Power by which a blink's way falls off towards the brow: mostly skin next to the lid gives."""

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
    rigid: Array  # (M, 2)
    box: Box
    """Where the mesh lies on the plate; nothing outside of it ever changes"""
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
        outer_screen = moved
        outer_screen[:, :2] = still[:, :2] + self.rigid * (moved - still)[:, :2]
        outer_screen[:, 2] += BEHIND_FACE * head.rest.scale
        screen = np.concatenate([face, outer_screen])
        keep_edge_lengths(screen, self.pixels, self.outer_edges, self.outer_mobility, 0.30, 4, 0.8)
        untouched = np.zeros(len(screen), np.int64)
        keep_triangle_areas(screen, self.pixels, self.solid, self.mobility, 0.05, 40, untouched)
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
    outer = build_outer_mesh(plate, face, photographed[OVAL, 2])
    pixels = np.concatenate([face[:, :2], outer.points])
    solid = np.concatenate([outer.triangles, surface_triangles])
    jaw = canonical_face[:NUM_SURFACE, 1] > 0.35
    face_edges = mesh_edges(surface_triangles)
    outer_mobility = np.concatenate([np.zeros(NUM_SURFACE), np.where(outer.still, 0.0, 1.0)])
    mobility = np.concatenate([np.ones(NUM_SURFACE), outer_mobility[NUM_SURFACE:]])
    mobility[[*OPENINGS]] = 0.0
    return Rig(
        photographed=photographed,
        neutral=neutral,
        outer=_lift(plate, outer.points, outer.depth),
        pixels=pixels,
        triangles=np.concatenate([solid, _hole_triangles()]),
        solid=solid,
        follow=outer.follow,
        rigid=outer.rigid,
        box=_box_of(plate, pixels[solid.ravel()]),
        jaw_edges=np.ascontiguousarray(face_edges[jaw[face_edges].all(1)], np.int32),
        outer_edges=mesh_edges(outer.triangles),
        outer_mobility=outer_mobility,
        mobility=mobility,
        blinks=(_blink(photographed, *EYES[0]), _blink(photographed, *EYES[1])),
    )


def _unfold(plate: Plate, canonical_face: Array, triangles: NDArray[np.int32]) -> Array:
    """Face points (468, 3) on the plate, moved so that no triangle is turned over or edge-on.

    The far cheek of a three-quarter portrait hides points of the mesh. They are spread in front of
    the outline; the whole picture is then one sheet, and turning the head opens no gaps in it.
    """
    face = plate.landmarks[:NUM_SURFACE].copy()
    mobility = np.ones(NUM_SURFACE)
    mobility[[*OPENINGS]] = 0.0
    frontal = canonical_face[:NUM_SURFACE] * plate.rest.scale
    untouched = np.zeros(len(face), np.int64)
    keep_triangle_areas(face, frontal, triangles, mobility, LEAST_AREA, 300, untouched)
    return face


def _box_of(plate: Plate, points: Array) -> Box:
    """Whole pixels of the plate's box around points (N, 2)."""
    box = plate.box
    top, bottom, left, right = bounds_around(
        (points - (box.left, box.top)).astype(np.float32), 1.0, box.height, box.width
    )
    return Box(left + box.left, top + box.top, right + box.left, bottom + box.top)


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


def _lift(plate: Plate, points: Array, depth: Array) -> Array:
    """Canonical positions (M, 3) that lie at these pixels and at these canonical depths."""
    rotation, scale = plate.rest.rotation, plate.rest.scale
    shift = points - plate.rest.translation[:2]
    screen_depth = (depth * scale - shift @ rotation[:2, 2]) / rotation[2, 2]
    return np.column_stack([shift, screen_depth]) @ rotation / scale


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
        return float(UPPER_LID_SHARE * (1 - rise) ** LID_STRETCH * aside)
    if bottom < y < bottom + 0.2:
        return float((UPPER_LID_SHARE - 1.0) * (1 - smoothstep(0, 0.18, y - bottom)) * aside)
    return 0.0
