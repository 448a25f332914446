"""The mesh around the face: hair, ears, neck and a little of the background, and how it follows.

Outer points follow the face by three harmonic fields:

- ``follow``: the displacement of the face outline, fading outwards (the jaw pulls the neck along);
- ``rigid``: the share of the head's rigid motion, 1 on the head, little on the shoulders;
- a depth, from the outline's own to that of the head's centre, so that turning hardly slides hair.

What isn't the person stays where the photograph has it. Only a narrow band around the person gives
way. Where the picture's edge cuts through the person, hair is held the more, the more room there is
between the face and the edge.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.rendering.mesh.geometry import smoothstep
from moda.rendering.mesh.planar import SymmetricBand, delaunay_triangles
from moda.rendering.mesh.plate import Plate
from moda.structures.landmarks import FACE_OVAL, NECK_PIVOT, NUM_SURFACE, Array

GRID_STEP = 0.13
"""Spacing of the outer points. All lengths here are in eye distances (canonical units)."""
PADDING = 0.5
"""How far the grid goes on beyond the edge of the picture."""
OUTLINE, BAND = 0.1, 0.4
"""This near to the person, background moves as the person does, lest the outline kinks; beyond the
second distance it stays."""
HEAD_CENTRE_DEPTH = NECK_PIVOT[2]
FOLLOW_DECAY = 0.42
DEPTH_SCREENING = 0.1
"""Of the depth, in that of ``follow``: a steep depth beside the outline kinks a fringe."""
HEAD_ENDS = (0.9, 1.7)
"""Distances from the outline of the face between which the head's share falls to nothing."""
BODY_DECAY = 0.7
"""Below the chin, the share falls to 1 / e over this distance: shoulders follow a little."""
CHIN_BLEND = (-0.55, 0.05)
"""Heights about the chin between which the head becomes the body."""
BOTTOM_HELD = 0.6
"""Over this height above the lowest row, the body comes to rest."""
ROOM_TO_HOLD = (0.05, 0.5)
"""Room between the face and a cut edge, from which hair is held there in part and wholly."""
FACE_MARGIN = 0.2
"""What is this near to the face is taken for the person, whatever the mask says."""
LEAST_MOTION = 1e-3
"""Points with smaller shares stay."""

OVAL = np.array(FACE_OVAL)


class OuterMesh(NamedTuple):
    """Points around the face of one portrait on one plate, and their fields. M points."""

    points: Array  # (M, 2) pixels of the plate
    triangles: NDArray[np.int32]
    """(N, 3) those that move, by index of the whole mesh, in which the face's vertices are first"""
    still: NDArray[np.bool_]  # (M,)
    depth: Array  # (M,) canonical
    follow: Array  # (M, 36) how each point follows each point of the face outline
    rigid: Array  # (M, 2) share of the head's rigid motion, across and down


def build_outer_mesh(plate: Plate, face: Array, outline_depth: Array) -> OuterMesh:
    """Lay a grid around the face and solve its fields.

    Args:
        plate: with the person mask.
        face: (468, >=2) pixels of the plate.
        outline_depth: (36,) of the face outline, canonical units.
    """
    points, still = _outer_points(plate, face[OVAL, :2])
    triangles = _outer_triangles(face[OVAL, :2], points)
    fields = _Fields(plate, np.concatenate([face[:, :2], points]), triangles, still)
    depth, follow, rigid = fields.depth(outline_depth), fields.follow(), fields.rigid()
    still |= (np.abs(follow).sum(1) < LEAST_MOTION) & (rigid.max(1) < LEAST_MOTION)
    follow[still], rigid[still] = 0.0, 0.0
    moves = np.concatenate([np.ones(NUM_SURFACE, bool), ~still])
    return OuterMesh(points, triangles[moves[triangles].any(1)], still, depth, follow, rigid)


def mesh_edges(triangles: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each edge (E, 2) of a triangle list once."""
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    return np.ascontiguousarray(np.unique(np.sort(pairs, axis=1), axis=0), np.int32)


# ---------------------------------------------------------------------------- grid


def _outer_points(plate: Plate, oval: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Grid over the box and a ring close around the face: points (M, 2) and which stay."""
    unit, box = plate.rest.scale, plate.box
    step, padding = GRID_STEP * unit, PADDING * unit
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
    still = np.concatenate([np.zeros(int(inside_box.sum()), bool), on_side[kept]])
    return points, still | (outside_person(plate, _into_picture(plate, points)) > BAND)


def _into_picture(plate: Plate, points: Array) -> Array:
    """Points (N, 2), those beyond the box moved to its border."""
    box = plate.box
    return np.clip(points, [box.left, box.top], [box.right - 1, box.bottom - 1])


def _distance_from_side(plate: Plate, side: str, points: Array) -> Array:
    """Pixels (N,) of points from a side of the box, positive inside."""
    if side == "top":
        return points[:, 1] - plate.box.top
    if side == "left":
        return points[:, 0] - plate.box.left
    return plate.box.right - 1 - points[:, 0]


def outside_person(plate: Plate, points: Array) -> Array:
    """Distance (N,) of points of the plate from the person in eye distances, 0 on the person."""
    crop_from_plate = plate.crop_from_plate
    scale = float(np.sqrt(abs(np.linalg.det(crop_from_plate[:, :2]))))
    unit = plate.rest.scale * scale
    landmarks = plate.landmarks[:, :2] @ crop_from_plate[:, :2].T + crop_from_plate[:, 2]
    face = np.zeros(plate.person_mask.shape, np.uint8)
    cv2.fillPoly(face, [np.round(landmarks[OVAL]).astype(np.int32)], (1,))
    person = (plate.person_mask > 0.5).astype(np.uint8)
    if person[face > 0].mean() <= 0.3:
        person = _drawn_person(face, landmarks, unit)
    person |= _grown(face, FACE_MARGIN * unit)
    _, parts = cv2.connectedComponents(person)
    names = parts[(face > 0) & (person > 0)]
    person = (parts == np.bincount(names).argmax()).astype(np.uint8)
    distance = cv2.distanceTransform(1 - person, cv2.DIST_L2, 5) / np.float32(unit)
    return plate.sample_crop(distance.astype(np.float32), points)


def _drawn_person(face: NDArray[np.uint8], landmarks: Array, unit: float) -> NDArray[np.uint8]:
    """Head and shoulders (S, S) around a face that the mask does not know."""
    side = len(face)
    chin, centre = landmarks[152, 1], landmarks[:NUM_SURFACE, 0].mean()
    width = 0.7 * unit + 1.2 * (side - chin)
    shoulders = [
        [centre - 0.7 * unit, chin], [centre + 0.7 * unit, chin],
        [centre + width, side], [centre - width, side],
    ]  # fmt: skip
    person = _grown(face, 0.55 * unit)
    if chin < side:
        cv2.fillPoly(person, [np.round(shoulders).astype(np.int32)], (1,))
    return person


def _grown(mask: NDArray[np.uint8], radius: float) -> NDArray[np.uint8]:
    """A mask of 0 and 1, wider by some pixels."""
    distance = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
    return (distance <= radius).astype(np.uint8)


def _distance_outside(polygon: Array, points: Array) -> Array:
    """Signed distance (N,) in pixels of points from a polygon, positive outside."""
    contour = polygon.astype(np.float32).reshape(-1, 1, 2)
    return -np.array([cv2.pointPolygonTest(contour, (float(x), float(y)), True) for x, y in points])


def _outer_triangles(oval: Array, points: Array) -> NDArray[np.int32]:
    """Delaunay triangles between the face outline and the outer points, as vertex indices."""
    placed = np.concatenate([oval, points])
    found = delaunay_triangles(placed)
    corners = placed[found]
    edge_one, edge_two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.abs(edge_one[:, 0] * edge_two[:, 1] - edge_one[:, 1] * edge_two[:, 0])
    only_oval = (found < len(oval)).all(1)
    outside = _distance_outside(oval, corners.mean(1)) > 0
    found = found[(outside | ~only_oval) & (area > 1e-6)]
    index = np.concatenate([OVAL, NUM_SURFACE + np.arange(len(points))])
    return index[found].astype(np.int32)


# ---------------------------------------------------------------------------- fields


class _Fields:
    """Smooth fields over the outer mesh, by sparse linear systems on its edges."""

    def __init__(
        self,
        plate: Plate,
        pixels: Array,
        triangles: NDArray[np.int32],
        still: NDArray[np.bool_],
    ) -> None:
        self._plate = plate
        self._pixels = pixels
        self._still = np.flatnonzero(still) + NUM_SURFACE
        self._unit = plate.rest.scale
        edges = mesh_edges(triangles)
        length = np.linalg.norm(pixels[edges[:, 0]] - pixels[edges[:, 1]], axis=1) / self._unit
        weight = 1.0 / np.maximum(0.04, length)
        self._edges, self._weight = edges, weight
        self._degree = np.bincount(edges.ravel(), weight.repeat(2), len(pixels))
        self._screening = (
            0.5 * (GRID_STEP / FOLLOW_DECAY) ** 2 * float(np.median(self._degree[self._degree > 0]))
        )

    def follow(self) -> Array:
        """(M, 36): how each outer point follows each point of the face outline."""
        fixed = np.concatenate([OVAL, self._still])
        values = np.concatenate([np.eye(len(OVAL)), np.zeros((len(self._still), len(OVAL)))])
        return self._solve(fixed, values, self._screening)

    def depth(self, outline: Array) -> Array:
        """(M,) canonical depth: the outline's (36,), fading to the head's centre."""
        values = (outline - HEAD_CENTRE_DEPTH)[:, None]
        return (
            HEAD_CENTRE_DEPTH + self._solve(OVAL, values, DEPTH_SCREENING * self._screening)[:, 0]
        )

    def rigid(self) -> Array:
        """(M, 2) share of the head's rigid motion across and down."""
        points = _into_picture(self._plate, self._pixels[NUM_SURFACE:])
        unit = self._unit
        distance = np.maximum(_distance_outside(self._pixels[OVAL], points) / unit, 0.0)
        chin = self._plate.landmarks[152, 1]
        low, high = (chin + height * unit for height in CHIN_BLEND)
        below = smoothstep(low, high, points[:, 1])
        head = 1 - smoothstep(*HEAD_ENDS, distance)
        above_bottom = (self._plate.box.bottom - 1 - points[:, 1]) / unit
        body = np.exp(-distance / BODY_DECAY) * smoothstep(0.0, BOTTOM_HELD, above_bottom)
        share = head * (1 - below) + body * below
        is_person = outside_person(self._plate, points) <= OUTLINE
        known = np.setdiff1d(np.flatnonzero(is_person) + NUM_SURFACE, self._still)
        fixed = np.concatenate([OVAL, self._still, known])
        values = np.concatenate(
            [np.ones(len(OVAL)), np.zeros(len(self._still)), share[known - NUM_SURFACE]]
        )
        share = np.clip(self._solve(fixed, values[:, None], 1e-9), 0.0, 1.0)
        return share * self._held(points, is_person)

    def _held(self, points: Array, is_person: NDArray[np.bool_]) -> Array:
        """(M, 2) what is left of motion across and down near an edge, beyond which is no picture.

        Background only slides along an edge.
        """
        left = np.ones((len(points), 2))
        for side in self._plate.free_sides:
            axis = 1 if side == "top" else 0
            room = float(_distance_from_side(self._plate, side, self._pixels[OVAL]).min())
            at_edge = is_person * (1 - smoothstep(*ROOM_TO_HOLD, room / self._unit))
            way = _distance_from_side(self._plate, side, points) / max(room, 0.05 * self._unit)
            left[:, axis] *= at_edge + (1 - at_edge) * smoothstep(0.0, 1.0, way)
        return left

    def _solve(self, fixed: NDArray[np.intp], values: Array, screening: float) -> Array:
        """Harmonic (or screened) interpolation of values (F, C) at fixed vertices -> (M, C)."""
        used = np.concatenate([OVAL, np.arange(NUM_SURFACE, len(self._pixels))])
        free = np.setdiff1d(used, fixed)
        free = free[np.argsort(self._pixels[free, 1], kind="stable")]
        result = np.zeros((len(self._pixels), values.shape[1]))
        result[fixed] = values
        if len(free):
            place = np.full(len(self._pixels), -1)
            place[free] = np.arange(len(free))
            pairs = place[self._edges]
            inner = (pairs >= 0).all(1)
            band = SymmetricBand(self._degree[free] + screening, pairs[inner], -self._weight[inner])
            right_side = np.zeros((len(free), values.shape[1]))
            for near, far in ((0, 1), (1, 0)):
                outer = (pairs[:, near] >= 0) & (pairs[:, far] < 0)
                pulled = self._weight[outer, None] * result[self._edges[outer, far]]
                np.add.at(right_side, pairs[outer, near], pulled)
            result[free] = band.solve(right_side)
        return result[NUM_SURFACE:]
