"""Fit the mesh motion space on tracked faces: mean face, expression basis, statistics.

Variance is the wrong target for lips: a plain principal component analysis loses the closures. Here
points of the lips, and above all the gap between them, weigh more, and each region of the face has
components of its own, so that brows never move the mouth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from moda.encoders.tracking import (
    GAP_WEIGHT,
    LandmarkTrack,
    estimate_neutral,
    lid_openness,
    motion_from_landmarks,
    mouth_width_ratio,
    remove_pose,
    vertex_weights,
)
from moda.rendering.mesh.geometry import smoothstep
from moda.structures import MotionSpace
from moda.structures.landmarks import (
    LEFT_BROW,
    LEFT_EYE_UPPER,
    NUM_SURFACE,
    OUTER_EYE_CORNERS,
    RIGHT_BROW,
    RIGHT_EYE_UPPER,
    STABLE,
    Array,
    fit_similarity,
    lip_gaps,
)

GROUPS = (("mouth", 16), ("brows", 4), ("cheeks", 2), ("blink", 2), ("gaze", 2))


def fit_mesh_space(tracks: Sequence[LandmarkTrack], triangles: NDArray[np.int32]) -> MotionSpace:
    """Mean face, mirrored-symmetric expression basis and motion statistics of tracked clips.

    Args:
        tracks: landmarks of many people talking; people should weigh alike.
        triangles: (N, 3) the face surface.
    """
    canonical = fit_canonical_face(tracks)
    mirror = mirrored_indices(canonical)
    offsets, gaps, total = [], [], 0.0
    for track in tracks:
        clip_offsets, clip_gaps = expression_offsets(track, canonical)
        weight = len(clip_offsets) ** -0.25  # a clip counts by the root of its length
        total += 2.0 * len(clip_offsets) * weight**2
        for flip in (False, True):
            part = clip_offsets
            if flip:
                part = clip_offsets[:, mirror[:NUM_SURFACE]] * np.array([-1.0, 1.0, 1.0])
            offsets.append(part * weight)
            gaps.append((clip_gaps[:, ::-1] if flip else clip_gaps) * weight)
    all_offsets = np.concatenate(offsets) / np.sqrt(total)  # rows carry the root of their weight
    all_gaps = np.concatenate(gaps) / np.sqrt(total)

    mouth, brows, cheeks = region_masks(canonical)
    basis = np.concatenate(
        [
            principal_components(all_offsets * mouth[:, None], all_gaps, 16),
            principal_components(all_offsets * brows[:, None], None, 4),
            principal_components(all_offsets * cheeks[:, None], None, 2),
        ]
    )
    size = sum(size for _, size in GROUPS) + 7
    space = MotionSpace(
        name="mesh",
        groups=GROUPS,
        mean=np.zeros(size, np.float32),
        std=np.ones(size, np.float32),
        pose_reference="rest",
        canonical_face=canonical.astype(np.float32),
        triangles=triangles.astype(np.int32),
        basis=basis.astype(np.float32),
    )
    return with_statistics(space, tracks)


def with_statistics(space: MotionSpace, tracks: Sequence[LandmarkTrack]) -> MotionSpace:
    """The space with mean and standard deviation of the motion of the given clips.

    Each clip weighs by the root of its length. Statistics of the pose are those of the motion
    around the rest pose, so their mean is set to rest.
    """
    values = [motion_from_landmarks(track, space)[0].values.astype(np.float64) for track in tracks]
    weights = np.concatenate([np.full(len(clip), len(clip) ** -0.5) for clip in values])
    stacked = np.concatenate(values)
    mean = np.average(stacked, axis=0, weights=weights)
    mean[space.slice("pose")] = (1.0, 0, 0, 0, 0, 0, 0)
    std = np.sqrt(np.average((stacked - mean) ** 2, axis=0, weights=weights))
    return replace(space, mean=mean.astype(np.float32), std=std.astype(np.float32))


def fit_canonical_face(tracks: Sequence[LandmarkTrack]) -> Array:
    """Mean face (478, 3): generalised Procrustes, symmetric, outer-eye distance 1, eyes level.

    Source: J. Gower, "Generalized Procrustes analysis", Psychometrika 1975; alternating form.
    """
    stable, (right_eye, left_eye) = list(STABLE), OUTER_EYE_CORNERS
    reference = tracks[0].landmarks[0].astype(np.float64)
    for _ in range(5):
        reference = reference - reference[stable].mean(0)
        reference = reference / np.linalg.norm(reference[right_eye] - reference[left_eye])
        means = [
            remove_pose(track.landmarks[::10].astype(np.float64), reference)[0].mean(0)
            for track in tracks
        ]
        reference = np.mean(means, axis=0)
    across = reference[left_eye] - reference[right_eye]
    across /= np.linalg.norm(across)
    down = reference[152] - reference[10]
    down = down - across * (across @ down)
    down /= np.linalg.norm(down)
    upright = reference @ np.stack([across, down, np.cross(across, down)], axis=1)
    mirror = mirrored_indices(upright)
    flipped = upright[mirror] * np.array([-1.0, 1.0, 1.0])
    fit = fit_similarity(flipped[stable], upright[stable])
    symmetric = 0.5 * (upright + fit.apply(flipped))
    symmetric = symmetric - symmetric[stable].mean(0)
    symmetric[:, 0] -= 0.5 * (symmetric[right_eye, 0] + symmetric[left_eye, 0])
    return symmetric / np.linalg.norm(symmetric[right_eye] - symmetric[left_eye])


def mirrored_indices(face: Array) -> NDArray[np.int64]:
    """(478,) for each point the one it is the mirror image of."""
    right_eye, left_eye = OUTER_EYE_CORNERS
    centred = face - 0.5 * (face[right_eye] + face[left_eye])
    flipped = centred * np.array([-1.0, 1.0, 1.0])
    result = np.empty(len(face), np.int64)
    for start, stop in ((0, NUM_SURFACE), (NUM_SURFACE, len(face))):
        distance = np.linalg.norm(flipped[start:stop, None] - centred[None, start:stop], axis=-1)
        result[start:stop] = start + linear_sum_assignment(distance)[1]
    return result


def expression_offsets(track: LandmarkTrack, canonical: Array) -> tuple[Array, Array]:
    """Offsets (T, 468, 3) from the clip's neutral face and lip gaps (T, 9), mouth-size normalised.

    Every second frame is used: neighbours differ little.
    """
    landmarks = track.landmarks[::2].astype(np.float64)
    faces, _, _, _ = remove_pose(landmarks, canonical)
    faces, _, _, _ = remove_pose(landmarks, np.median(faces, axis=0))
    neutral = estimate_neutral(faces, lid_openness(faces).mean(1))
    ratio = mouth_width_ratio(neutral, canonical)
    return (faces - neutral)[:, :NUM_SURFACE] / ratio, lip_gaps(faces) / ratio


def region_masks(canonical: Array) -> tuple[Array, Array, Array]:
    """(468,) weights 0..1 of mouth and jaw, brows and forehead, cheeks under the eyes."""
    surface = canonical[:NUM_SURFACE]
    eye_line = canonical[list(OUTER_EYE_CORNERS), 1].mean()
    nose_base = canonical[2, 1]
    mouth = smoothstep(eye_line + 0.15, nose_base - 0.05, surface[:, 1])
    lids = canonical[list(RIGHT_EYE_UPPER[3:6] + LEFT_EYE_UPPER[3:6]), 1].mean()
    brow_line = canonical[list(RIGHT_BROW + LEFT_BROW), 1].max()
    brows = 1.0 - smoothstep(brow_line, lids, surface[:, 1])
    top = canonical[10, 1]
    brows *= smoothstep(top, top + 0.25, surface[:, 1])
    below = smoothstep(eye_line + 0.04, eye_line + 0.14, surface[:, 1])
    cheeks = below * (1.0 - smoothstep(nose_base - 0.2, nose_base + 0.1, surface[:, 1]))
    return mouth, brows, cheeks * (1.0 - mouth)


def principal_components(offsets: Array, gaps: Array | None, count: int) -> Array:
    """Weighted principal components (count, 468, 3) of offsets (N, 468, 3).

    Components are scaled so that a parameter of 1 is one standard deviation of the data.
    """
    weights = vertex_weights()
    rows = (offsets * weights).reshape(len(offsets), -1)
    if gaps is not None:
        rows = np.concatenate([rows, GAP_WEIGHT * gaps], axis=1)
    covariance = rows.T @ rows
    variances, vectors = np.linalg.eigh(covariance)
    order = np.argsort(variances)[::-1][:count]
    scale = np.sqrt(variances[order])
    directions = vectors[:, order].T[:, : NUM_SURFACE * 3].reshape(count, NUM_SURFACE, 3)
    return directions / weights * scale[:, None, None]
