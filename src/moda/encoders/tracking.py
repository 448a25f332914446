"""Landmarks of a driving video to motion in the mesh space.

The pose is fitted on points that expression hardly moves, relative to the clip's own rest pose.
The expression is what differs from the clip's own neutral face after the pose is removed, projected
on the basis of the motion space with extra weight on the lips, and on the lip gap itself: a closed
mouth must come out closed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.encoders.curves import monotone_curve, smooth
from moda.encoders.face import FaceModels, FaceTracker
from moda.encoders.shots import mark_cuts
from moda.errors import FaceError
from moda.structures import FRAMES_PER_SECOND, Floats, Motion, MotionSpace, Picture
from moda.structures.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LEFT_IRIS,
    LIPS,
    MOUTH_CORNERS,
    NECK_PIVOT,
    NUM_LANDMARKS,
    NUM_SURFACE,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    RIGHT_IRIS,
    STABLE,
    Array,
    euler_from_rotation,
    eye_distance,
    fit_similarity,
    lip_gap,
    lip_gaps,
    lip_width,
)

INNER_LIP_WEIGHT, LIP_WEIGHT, GAP_WEIGHT, DEPTH_WEIGHT = 6.0, 3.0, 10.0, 0.3
"""How much more a point of the lips, and the lip gap, counts than a point of the cheek."""

TRACKING_NOISE = 0.003
"""Usual error of a landmark in canonical units: what the fit need not explain."""

LEARNED_POSE_FRAMES, DRIVING_POSE_FRAMES = 13, 7
"""Frames over which a pose is smoothed: a model learns calm heads, a driven one moves as filmed."""

LIP_NOISE = 0.005
"""Usual error of the lips in one frame, canonical units: larger quick changes are movements."""

SAME_PLACE = 0.1
"""A face that moves less where a shot begins, in eye distances, moves on in one shot."""

EYE_CLOSED_SHARE = 0.3
"""Lid opening of a closed eye as the tracker sees it, as a share of the clip's open eye."""

BLINK_BEGINS, BLINK_IS_FULL = 0.25, 0.95
"""Shares of the way from open to closed."""


@dataclass(frozen=True)
class LandmarkTrack:
    """Landmarks of one face over a video at a constant rate."""

    landmarks: NDArray[np.float32]  # (T, 478, 3) pixels
    found: NDArray[np.bool_]  # (T,); landmarks are interpolated where the face was not found
    frames_per_second: float = FRAMES_PER_SECOND
    cuts: tuple[int, ...] = ()
    """Frames with which further shots begin."""

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def shots(self) -> list[slice]:
        """Frames of each shot."""
        return [slice(*ends) for ends in pairwise((0, *self.cuts, len(self)))]


def resample_frames(
    values: NDArray[np.float32], times: Array, num_frames: int, cuts: Sequence[int] = ()
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What was measured in N frames (N, ...), at their own times in seconds, to the 25 fps grid.

    Frames without a face hold NaN; they are bridged, and marked in the second result. Monotone
    cubic interpolation keeps the peaks that linear interpolation of 30 fps clips would cut. Nothing
    is mixed across ``cuts``, the numbers of frames with which further shots begin, unless a shot
    has no face of its own.

    Raises:
        FaceError: fewer than two frames show a face.
    """
    seen = np.isfinite(values.reshape(len(values), -1)[:, 0])
    if seen.sum() < 2:
        raise FaceError("fewer than 2 frames of the video show a face; use one that does")
    grid = np.arange(num_frames) / FRAMES_PER_SECOND
    result = _interpolate(values[seen], times[seen], grid)
    for start, stop in pairwise((0, *cuts, len(times))) if cuts else ():
        shown = np.flatnonzero(seen[start:stop]) + start
        if len(shown) >= 2:
            low = grid_frame(times[start])
            high = grid_frame(times[stop]) if stop < len(times) else num_frames
            result[low:high] = _interpolate(values[shown], times[shown], grid[low:high])
    nearest = np.abs(grid[:, None] - times[seen][None]).min(1)
    return result, nearest < 1.5 / FRAMES_PER_SECOND


def _interpolate(values: NDArray[np.float32], times: Array, wanted: Array) -> NDArray[np.float32]:
    times, first = np.unique(times, return_index=True)
    within = np.clip(wanted, times[0], times[-1])
    return monotone_curve(times, values[first], within).astype(np.float32)


def grid_frame(seconds: float) -> int:
    """The first frame of the 25 fps grid that is not before a time."""
    return max(0, math.ceil(seconds * FRAMES_PER_SECOND - 1e-6))


class FollowedFace(NamedTuple):
    """A face in the N pictures of a video."""

    times: Array  # (N,) seconds
    landmarks: NDArray[np.float32]  # (N, 478, 3) px, NaN where the face is not seen
    cuts: tuple[int, ...]
    """Pictures with which the face is elsewhere because another shot begins."""


def follow_face(pictures: Iterable[tuple[float, Picture]], models: FaceModels) -> FollowedFace:
    """Follow the face through pictures with their times in seconds, in every shot anew.

    Memory is that of the landmarks, not of the pictures.

    Raises:
        FaceError: there are no pictures.
    """
    tracker = FaceTracker(models)
    times: list[float] = []
    landmarks: list[NDArray[np.float32]] = []
    cuts: list[int] = []
    missing = np.full((NUM_LANDMARKS, 3), np.nan, np.float32)
    for (seconds, picture), begins_shot in mark_cuts(pictures, lambda timed: timed[1]):
        if begins_shot:
            tracker.reset()
            cuts.append(len(times))
        face = tracker.track(picture)
        times.append(seconds)
        landmarks.append(missing if face is None else face.points.astype(np.float32))
    if not times:
        raise FaceError("the video has no pictures; use one with a visible face")
    moved = [cut for cut in cuts if not _goes_on(*landmarks[cut - 1 : cut + 1])]
    return FollowedFace(np.array(times), np.stack(landmarks), tuple(moved))


def _goes_on(face: NDArray[np.float32], following: NDArray[np.float32]) -> bool:
    """Whether a face (478, 3) px is still where it was: only light or background changed."""
    before, after = face.astype(np.float64), following.astype(np.float64)
    moved = np.linalg.norm((after - before)[:, :2], axis=1).mean()
    return bool(moved < SAME_PLACE * eye_distance(before))


def num_grid_frames(times: Array) -> int:
    """Frames of the 25 fps grid that a video takes whose pictures have these times (N,)."""
    end = float(times[-1] + (times[-1] - times[0]) / max(len(times) - 1, 1))
    return max(1, round(end * FRAMES_PER_SECOND))


def track_landmarks(pictures: Iterable[tuple[float, Picture]], models: FaceModels) -> LandmarkTrack:
    """Follow the face through pictures with their times in seconds; landmarks on the 25 fps grid.

    Frame 0 is time 0.

    Raises:
        FaceError: fewer than two pictures show a face.
    """
    times, landmarks, cuts = follow_face(pictures, models)
    num_frames = num_grid_frames(times)
    on_grid, found = resample_frames(landmarks, times, num_frames, cuts)
    first_frames = {grid_frame(times[cut]) for cut in cuts} & set(range(1, num_frames))
    return LandmarkTrack(on_grid, found, cuts=tuple(sorted(first_frames)))


def track_frames(frames: Iterable[Picture], models: FaceModels) -> LandmarkTrack:
    """The same of frames at 25 fps."""
    timed = ((index / FRAMES_PER_SECOND, frame) for index, frame in enumerate(frames))
    return track_landmarks(timed, models)


class TrackedMotion(NamedTuple):
    """Motion of a driving video."""

    motion: Motion
    found: NDArray[np.bool_]
    """(T,) whether the face was seen; elsewhere the motion is interpolated"""
    neutral: Array
    """(478, 3) the neutral face that the expression is relative to, canonical units"""


def track_motion(
    pictures: Iterable[tuple[float, Picture]], models: FaceModels, space: MotionSpace
) -> TrackedMotion:
    """Track a video, pictures with their times in seconds, into motion at 25 fps.

    Raises:
        FaceError: fewer than two pictures show a face.
    """
    track = track_landmarks(pictures, models)
    motion, neutral = motion_from_landmarks(track, space, pose_frames=DRIVING_POSE_FRAMES)
    return TrackedMotion(motion, track.found, neutral)


def remove_pose(landmarks: Array, reference: Array) -> tuple[Array, Array, Array, Array]:
    """Pose-free faces and their poses, fitted on the stable points.

    Args:
        landmarks: (T, 478, 3) pixels.
        reference: (478, 3) face in canonical units.

    Returns:
        Faces (T, 478, 3) in canonical units, scales (T,), rotations (T, 3, 3), translations (T, 3).
    """
    stable = list(STABLE)
    fits = [fit_similarity(reference[stable], frame[stable]) for frame in landmarks]
    faces = np.stack([fit.invert(frame) for fit, frame in zip(fits, landmarks, strict=True)])
    return (
        faces,
        np.array([fit.scale for fit in fits]),
        np.stack([fit.rotation for fit in fits]),
        np.stack([fit.translation for fit in fits]),
    )


def estimate_neutral(faces: Array, openness: Array) -> Array:
    """Neutral face (478, 3) of a clip: mouth closed and of usual width, eyes normally open.

    Args:
        faces: (T, 478, 3) pose-free.
        openness: (T,) lid opening, see :func:`lid_openness`.
    """
    gap, width = lip_gap(faces), lip_width(faces)
    distance = (
        gap / 0.02
        + np.abs(openness - np.percentile(openness, 70)) / 0.08
        + np.abs(width - np.median(width)) / 0.05
    )
    chosen = np.argsort(distance, kind="stable")[: max(3, len(faces) // 20)]
    return faces[chosen].mean(0)


def lid_openness(faces: Array) -> Array:
    """Mean lid distance over eye width, (T, 2) for the right and the left eye."""

    def ratio(upper: tuple[int, ...], lower: tuple[int, ...]) -> Array:
        height = np.linalg.norm(faces[:, upper[3:6]] - faces[:, lower[3:6]], axis=-1).mean(1)
        return height / np.linalg.norm(faces[:, upper[0]] - faces[:, upper[-1]], axis=-1)

    return np.stack(
        [ratio(RIGHT_EYE_UPPER, RIGHT_EYE_LOWER), ratio(LEFT_EYE_UPPER, LEFT_EYE_LOWER)], axis=1
    )


def gaze_offsets(faces: Array) -> Array:
    """Iris centre against the middle of the eye corners, mean of both eyes, (T, 2) canonical."""

    def offset(iris: int, outer: int, inner: int) -> Array:
        return faces[:, iris] - 0.5 * (faces[:, outer] + faces[:, inner])

    both = offset(RIGHT_IRIS[0], 33, 133) + offset(LEFT_IRIS[0], 263, 362)
    return 0.5 * both[:, :2]


def vertex_weights() -> Array:
    """(468, 3) weights of the least-squares fit of an expression."""
    weights = np.ones(NUM_SURFACE)
    weights[list(LIPS)] = LIP_WEIGHT
    weights[list(INNER_LIP_UPPER + INNER_LIP_LOWER)] = INNER_LIP_WEIGHT
    return weights[:, None] * np.array([1.0, 1.0, DEPTH_WEIGHT])


class ExpressionFit:
    """Projection of faces on the basis of a mesh space: offsets to parameters."""

    def __init__(self, space: MotionSpace) -> None:
        assert space.basis is not None
        basis = space.basis.astype(np.float64)
        self._weights = vertex_weights()
        rows = np.concatenate(
            [(basis * self._weights).reshape(len(basis), -1), GAP_WEIGHT * lip_gaps(basis)], axis=1
        )
        spread = np.maximum(space.std[: len(basis)].astype(np.float64), 1e-6)
        ridge = np.diag((TRACKING_NOISE / spread) ** 2)
        self._solve = np.linalg.solve(rows @ rows.T + ridge, rows)

    def __call__(self, offsets: Array, gaps: Array) -> Array:
        """Vertex offsets (T, 468, 3) and lip gaps (T, 9), canonical, to parameters (T, B)."""
        targets = np.concatenate(
            [(offsets * self._weights).reshape(len(offsets), -1), GAP_WEIGHT * gaps], axis=1
        )
        return targets @ self._solve.T


def mouth_width_ratio(neutral: Array, canonical_face: Array) -> float:
    """Mouth width of a face over that of the mean face, limited to 0.75..1.3."""
    right, left = MOUTH_CORNERS
    ratio = np.linalg.norm(neutral[right] - neutral[left]) / np.linalg.norm(
        canonical_face[right] - canonical_face[left]
    )
    return float(np.clip(ratio, 0.75, 1.3))


def motion_from_landmarks(
    track: LandmarkTrack,
    space: MotionSpace,
    *,
    neutral: Array | None = None,
    rest_frame: int | None = None,
    smooth: bool = True,
    pose_frames: int = LEARNED_POSE_FRAMES,
) -> tuple[Motion, Array]:
    """Motion of a tracked clip, and the neutral face (478, 3) it is relative to.

    The rest pose is the median pose of each shot: the camera moves between shots, the head does
    not. ``neutral`` is the person's neutral face from another
    clip; without it the clip's own is estimated, and an expression that never ceases is lost.
    ``rest_frame`` takes pose and eyes at rest from one frame instead of medians. With ``smooth``
    the tracker's noise is taken out of each shot by Savitzky-Golay filters: 5 frames on the mouth,
    7 on the rest of the face, ``pose_frames`` on the pose.
    """
    assert space.canonical_face is not None
    canonical = space.canonical_face.astype(np.float64)
    landmarks = track.landmarks.astype(np.float64)
    person = neutral  # fitting on the own face removes identity from the pose
    if person is None:
        person = np.median(remove_pose(landmarks, canonical)[0], axis=0)
    faces, scales, rotations, translations = remove_pose(landmarks, person)
    openness = lid_openness(faces)
    if neutral is None:
        neutral = estimate_neutral(faces, openness.mean(1))

    ratio = mouth_width_ratio(neutral, canonical)
    offsets = (faces - neutral)[:, :NUM_SURFACE] / ratio
    expression = ExpressionFit(space)(offsets, lip_gaps(faces) / ratio)
    values = np.zeros((len(track), space.size), np.float32)

    def smoother(noisy: Array, window: int) -> Array:
        if not smooth:
            return noisy
        return np.concatenate([_smooth(noisy[shot], window) for shot in track.shots])

    mouth = space.slice("mouth")
    values[:, mouth] = smoother(expression[:, mouth], 5)
    if smooth:
        values[:, mouth] += _quick_lips(expression[:, mouth] - values[:, mouth], space)
    values[:, mouth.stop : expression.shape[1]] = smoother(expression[:, mouth.stop :], 7)
    at_rest = slice(None) if rest_frame is None else slice(rest_frame, rest_frame + 1)
    values[:, space.slice("blink")] = blink_from_openness(openness)
    gaze = gaze_offsets(faces)
    values[:, space.slice("gaze")] = smoother(gaze - np.median(gaze[at_rest], 0), 7)
    shots = track.shots if rest_frame is None else [slice(None)]
    poses = []
    for shot in shots:
        pose = scales[shot], rotations[shot], translations[shot]
        rest = rest_pose(pose[0][at_rest], pose[1][at_rest], pose[2][at_rest])
        poses.append(relative_pose(*pose, rest))
    values[:, space.slice("pose")] = smoother(np.concatenate(poses), pose_frames)
    return Motion(values, space), neutral


def open_lids(openness: Array) -> Array:
    """(2,) usual opening of the eyes of a clip (T, 2)."""
    return np.percentile(openness, 75, axis=0)


def blink_from_openness(openness: Array, opened: Array | None = None) -> Floats:
    """Lid opening (T, 2) to blink (T, 2): 0 the usual open eye (2,), the clip's own, 1 closed.

    Lids waver and follow the gaze: what is less than a quarter of a blink is none.
    """
    opened = open_lids(openness) if opened is None else opened
    closed = EYE_CLOSED_SHARE * opened
    share = np.clip((opened - openness) / (opened - closed), 0.0, 1.0)
    ramp = np.clip((share - BLINK_BEGINS) / (BLINK_IS_FULL - BLINK_BEGINS), 0.0, 1.0)
    return (ramp * ramp * (3.0 - 2.0 * ramp)).astype(np.float32)


class RestPose(NamedTuple):
    """The pose that others are relative to."""

    rotation: Array  # (3, 3)
    scale: float
    """pixels of a canonical unit"""
    pivot: Array
    """(3,) px, where the neck's pivot is"""


def rest_pose(scales: Array, rotations: Array, translations: Array) -> RestPose:
    """The median of the poses (T,), (T, 3, 3) and (T, 3) of :func:`remove_pose`."""
    pivots = _pivots(scales, rotations, translations)
    middle = np.median(pivots, axis=0)
    return RestPose(_mean_rotation(rotations), float(np.median(scales)), middle)


def relative_pose(
    scales: Array, rotations: Array, translations: Array, rest: RestPose | None = None
) -> Array:
    """Poses relative to ``rest``, by default their own median: (T, 7) scale, translation (3),
    pitch, yaw, roll.

    Translations are those of the neck pivot's surroundings in canonical units, seen from the rest
    pose: ``screen = rest(rotation @ (x - pivot) * scale + pivot + translation)``.
    """
    rest = rest or rest_pose(scales, rotations, translations)
    relative = np.einsum("ji,tjk->tik", rest.rotation, rotations)
    angles = np.array([euler_from_rotation(rotation) for rotation in relative])
    pivots = _pivots(scales, rotations, translations)
    moved = (pivots - rest.pivot) @ rest.rotation / rest.scale
    return np.concatenate([(scales / rest.scale)[:, None], moved, angles], axis=1)


def _pivots(scales: Array, rotations: Array, translations: Array) -> Array:
    return scales[:, None] * np.einsum("tij,j->ti", rotations, NECK_PIVOT) + translations


def _mean_rotation(rotations: Array) -> Array:
    """Rotation nearest to the elementwise median of rotations (T, 3, 3)."""
    left, _, right = np.linalg.svd(np.median(rotations, axis=0))
    return (left * np.array([1.0, 1.0, np.linalg.det(left @ right)])) @ right


def _smooth(values: Array, window: int) -> Array:
    return values if len(values) < window else smooth(values, window)


def _quick_lips(smoothed_away: Array, space: MotionSpace) -> Array:
    """What a smoother took from the mouth (T, M) by mistake: more than tracking noise on the lips.

    The filter opens closures of one or two frames otherwise.
    """
    assert space.basis is not None
    basis = space.basis[space.slice("mouth")][:, list(LIPS), :2].astype(np.float64)
    moved = (np.tensordot(smoothed_away, basis, 1) ** 2).sum(-1).mean(-1)  # (T,) canonical units^2
    return smoothed_away * (moved / (moved + LIP_NOISE**2))[:, None]
