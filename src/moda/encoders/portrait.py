"""A picture to a :class:`Portrait`: one face, its crop, landmarks, pose and closed mouth."""

from __future__ import annotations

import cv2
import numpy as np

from moda.encoders.covering import is_mouth_covered
from moda.encoders.face import FaceLandmarks, FaceModels
from moda.encoders.regions import resize
from moda.errors import ConfigError, FaceError
from moda.structures import MotionSpace, Picture, Portrait
from moda.structures.landmarks import (
    FACE_OVAL,
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    LIP_CENTRES,
    NUM_SURFACE,
    STABLE,
    Array,
    euler_from_rotation,
    fit_similarity,
)

CROP_SIZE_PX = 512
CROP_SIDE = 2.35
"""Side of the crop over the height of the face oval."""
OVAL_ASPECT = 1.15
"""Usual height of the face oval over its width: a wide oval (a tilted head) counts as higher."""
CROP_RISE = 0.02
"""How far the centre of the crop lies above that of the face, in sides: room for the hair."""

SMALLEST_FACE_PX, SMALLEST_FACE_SHARE = 40, 0.025
"""Height of a face that is found for sure, in pixels and of the picture's long side."""
LARGEST_YAW_DEGREES = 60.0
OPEN_LIP_GAP = 0.012
"""Lips further apart than this (seen from the front, in outer-eye distances) are an open mouth."""
LARGEST_CLOSING = 3.0
"""Limit of each closing coefficient in standard deviations of speech: a laughing mouth is closed
no further than mouths go, even if that leaves a small gap."""
CLOSING_RIDGE = 0.0005

LOOKS = (
    (0.0, 0.0, 1.0, 0.0),
    (0.02, 0.01, 0.97, 2.0),
    (-0.01, 0.02, 1.03, -2.0),
    (-0.02, -0.01, 0.98, 1.0),
    (0.01, -0.02, 1.02, -1.0),
)
"""The landmarks are the mean of several looks at the face."""


def encode_portrait(
    image: Picture, space: MotionSpace, *, models: FaceModels, face: int | None = None
) -> Portrait:
    """Find a face and prepare it for rendering.

    Args:
        image: (H, W, 3) RGB, of any size.
        space: the mesh motion space, with its canonical face and basis.
        face: which face, counted from left to right from 1; None is the largest.

    Raises:
        FaceError: there is no face, not that many, or it is seen from the side.
        ConfigError: the motion space has no canonical face or no basis.
    """
    if space.canonical_face is None or space.basis is None:
        raise ConfigError(
            f"the {space.name} motion space has no canonical face and basis to fit a portrait with;"
            " load the mesh space"
        )
    found = choose_face(image, models, face)
    crop_image, crop_from_image = crop_around(image, found)
    crop_landmarks = _refine(crop_image, map_points(crop_from_image, found.points), models)
    canonical_face = space.canonical_face.astype(np.float64)
    stable = list(STABLE)
    pose = fit_similarity(canonical_face[stable], crop_landmarks[stable])
    _, yaw, _ = euler_from_rotation(pose.rotation)
    if abs(yaw) > LARGEST_YAW_DEGREES:
        raise FaceError(
            f"the face is turned {abs(yaw):.0f} degrees to the side, the limit is "
            f"{LARGEST_YAW_DEGREES:.0f}; use a picture that shows it more from the front"
        )
    canonical_keypoints = pose.invert(crop_landmarks)
    covered = is_mouth_covered(crop_image, crop_landmarks, models)
    return Portrait(
        image=image,
        landmarks=map_points(invert_affine(crop_from_image), crop_landmarks),
        crop_image=crop_image,
        crop_from_image=crop_from_image,
        crop_landmarks=crop_landmarks,
        person_mask=models.person_mask(crop_image),
        pose=pose,
        canonical_keypoints=canonical_keypoints,
        neutral_keypoints=(
            canonical_keypoints if covered else close_mouth(canonical_keypoints, space)
        ),
        mouth_covered=covered,
    )


def choose_face(image: Picture, models: FaceModels, number: int | None) -> FaceLandmarks:
    """The largest face of a picture (H, W, 3), or one by its number from the left, from 1.

    Raises:
        FaceError: there is no face, or none of that number.
    """
    faces = models.find_faces(image, search="first" if number is None else "all")
    if not faces:
        height, width = image.shape[:2]
        smallest = max(SMALLEST_FACE_PX, round(SMALLEST_FACE_SHARE * max(height, width)))
        raise FaceError(
            f"no face found in the picture of {width} x {height} px; use one with an upright, "
            f"uncovered face seen from the front, at least about {smallest} px high"
        )
    if number is None:
        return faces[0]
    if not 1 <= number <= len(faces):
        count = "1 face" if len(faces) == 1 else f"{len(faces)} faces"
        allowed = "1" if len(faces) == 1 else f"1 to {len(faces)}, from left to right"
        raise FaceError(
            f"the picture shows {count}, there is no face {number}; choose {allowed}, "
            "or none to take the largest"
        )
    return sorted(faces, key=lambda face: face.region.x)[number - 1]


def crop_around(image: Picture, face: FaceLandmarks) -> tuple[Picture, Array]:
    """Upright square around a head: the crop (S, S, 3), and the matrix (2, 3) from the image to it.

    What lies outside of the image is its border pixels continued. The square begins and ends at
    whole pixels, so that averaging down needs no interpolation; a very large one is first reduced
    by a whole factor, so that memory stays small however far it reaches beyond the image.
    """
    oval = face.points[list(FACE_OVAL), :2]
    extent = np.ptp(oval, axis=0)
    wanted = CROP_SIDE * max(OVAL_ASPECT * extent[0], extent[1])
    factor = max(1, int(wanted) // (2 * CROP_SIZE_PX))
    side = factor * max(1, round(wanted / factor))
    centre = 0.5 * (oval.min(0) + oval.max(0)) - (0.0, CROP_RISE * wanted)
    start = factor * np.round((centre + 0.5 - side / 2) / factor).astype(int)

    size = np.array(image.shape[1::-1]) // factor * factor
    low, high = np.clip(start, 0, size - factor), np.clip(start + side, factor, size)
    visible = image[low[1] : high[1], low[0] : high[0]]
    reduced = (high - low) // factor
    visible = resize(visible, (int(reduced[0]), int(reduced[1])))
    before, after = (
        np.maximum(low - start, 0) // factor,
        np.maximum(start + side - high, 0) // factor,
    )
    square = cv2.copyMakeBorder(
        visible, before[1], after[1], before[0], after[0], cv2.BORDER_REPLICATE
    ).astype(np.uint8, copy=False)
    scale = CROP_SIZE_PX / side
    matrix = np.column_stack([np.eye(2) * scale, scale * (0.5 - start) - 0.5])
    return resize(square, (CROP_SIZE_PX, CROP_SIZE_PX)), matrix


def map_points(matrix: Array, points: Array) -> Array:
    """Map points (K, 3) by an affine matrix (2, 3) of the picture plane; depth scales along."""
    planar = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    return np.column_stack([planar, scale * points[:, 2]])


def invert_affine(matrix: Array) -> Array:
    """Inverse (2, 3) of an affine matrix (2, 3)."""
    inverse = np.linalg.inv(matrix[:, :2])
    return np.column_stack([inverse, -inverse @ matrix[:, 2]])


def close_mouth(keypoints: Array, space: MotionSpace) -> Array:
    """Close an open mouth of a pose-free face (478, 3) with the mouth's part of the basis.

    Minimises the in-plane distance of the inner lips, with a ridge that prefers what speech does
    often, and every coefficient limited to what speech does at all.
    """
    upper, lower = LIP_CENTRES
    if np.linalg.norm(keypoints[upper, :2] - keypoints[lower, :2]) <= OPEN_LIP_GAP:
        return keypoints.copy()
    assert space.basis is not None
    mouth = space.slice("mouth")
    basis, deviation = space.basis[mouth].astype(np.float64), space.std[mouth].astype(np.float64)

    def lip_distances(vertices: Array) -> Array:
        """In-plane vectors between facing points of the inner lips, (..., 468, 3) -> (..., 22)."""
        difference = vertices[..., INNER_LIP_UPPER, :] - vertices[..., INNER_LIP_LOWER, :]
        return difference[..., :2].reshape(*vertices.shape[:-2], -1)

    # in units of the deviations
    system = (lip_distances(basis) * deviation[:, None]).T
    ridge = np.sqrt(CLOSING_RIDGE) * deviation.mean() * np.eye(len(basis))
    target = np.concatenate([-lip_distances(keypoints[:NUM_SURFACE]), np.zeros(len(basis))])
    solution = _least_squares(np.concatenate([system, ridge]), target, LARGEST_CLOSING)
    closed = keypoints.copy()
    closed[:NUM_SURFACE] += np.tensordot(solution * deviation, basis, 1)
    return closed


def _least_squares(system: Array, target: Array, limit: float) -> Array:
    """The x (M,) with the smallest ``|system x - target|`` and no number beyond ``limit``."""
    free = np.linalg.lstsq(system, target, rcond=-1)[0].astype(np.float64, copy=False)
    if np.abs(free).max() <= limit:
        return free
    return _bounded(system.T @ system, system.T @ target, limit)


def _bounded(gram: Array, pull: Array, limit: float) -> Array:
    """The x (M,) that minimises ``x gram x / 2 - pull x`` within ``-limit`` to ``limit``.

    Numbers are held at a limit one by one, and let go where they would come back (Stark and
    Parker, 1995). ``gram`` (M, M) is positive definite.
    """
    solution, held = np.zeros(len(pull)), np.zeros(len(pull), bool)
    while True:
        free = ~held
        wanted = solution.copy()
        rest = pull[free] - gram[np.ix_(free, held)] @ solution[held]
        wanted[free] = np.linalg.solve(gram[np.ix_(free, free)], rest)
        way = wanted - solution
        beyond = free & (abs(wanted) > limit)
        if beyond.any():
            part = (np.copysign(limit, way) - solution)[beyond] / way[beyond]
            solution = solution + part.min() * way
            first = np.flatnonzero(beyond)[part.argmin()]
            solution[first], held[first] = np.copysign(limit, way[first]), True
            continue
        solution = wanted
        inwards = held * np.sign(solution) * (gram @ solution - pull)
        if inwards.max() <= 1e-9 * abs(pull).max():
            return solution
        held[inwards.argmax()] = False


def _refine(crop: Picture, landmarks: Array, models: FaceModels) -> Array:
    """Landmarks (478, 3) on the crop: the mean of several looks.

    Where the network sees no face in the crop, the landmarks that are given stay.
    """
    points = [face.points for face in models.look_again(crop, landmarks, LOOKS)]
    return np.mean(points, axis=0) if points else landmarks
