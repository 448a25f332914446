"""A driving video to motion of the neural space, and that motion to another face.

All frames are cut out by one square that does not move, so that the motion of the head stays in
the motion and the noise of the landmarks does not get into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.encoders.face import FaceModels
from moda.encoders.neural.face_crop import (
    CROP_RISE,
    CROP_SCALE,
    CropGeometry,
    crop_geometry,
    crop_picture,
    crop_points,
    extractor_picture,
    square_crop,
)
from moda.encoders.neural.motion_extractor import MotionExtractor, extract_faces
from moda.encoders.tracking import LandmarkTrack, follow_face, num_grid_frames, resample_frames
from moda.errors import MediaError
from moda.structures import Floats, Picture
from moda.structures.keypoints import (
    EXPRESSION_SIZE,
    MOTION_SIZE,
    angles_from_rotation,
    rotation_from_angles,
    split_motion,
)
from moda.structures.landmarks import Array, eye_opening, lip_gap

BATCH_SIZE = 8

FACE_REACH = CROP_RISE + 0.5 / CROP_SCALE
"""From the centre of a face's crop to its chin, in sides of the crop."""
USUAL_SHARE = 95.0
"""Percentage of the frames whose face must lie inside the square."""

CALM_LIP_GAP, CALM_EYE_OPENING, CALM_DEGREES = 0.02, 0.05, 5.0
"""What counts the same against a frame: lips apart (in outer-eye distances), eyes unlike the
clip's usual open ones (in eye widths), the head away from its usual pose."""


class ImplicitTrack(NamedTuple):
    """Motion of a driving video at 25 fps."""

    motion: Floats
    """(T, 70) raw motion of the neural space"""
    found: NDArray[np.bool_]
    """(T,) whether the face was seen; elsewhere the motion is interpolated"""
    calm_frame: int
    """The frame that stands for the face at rest"""


class ImplicitFaces(NamedTuple):
    """A talking video in the neural space at 25 fps, to train on."""

    track: LandmarkTrack
    motion: Floats
    """(2, T, 70) raw motion, of the video and of its mirror image"""
    identity: Floats
    """(2, 63) raw canonical key points of both, means over the pictures that show the face"""


def track_implicit_motion(
    video: Callable[[], Iterable[tuple[float, Picture]]],
    models: FaceModels,
    extractor: MotionExtractor,
) -> ImplicitTrack:
    """Motion of the face in a video.

    Args:
        video: begins the video, pictures with their times in seconds; it is read twice, first for
            the landmarks and then for the motion. Memory does not grow with the pictures.
        extractor: computes where its weights are.

    Raises:
        FaceError: fewer than two pictures show a face.
        MediaError: there are fewer pictures the second time.
    """
    track, sides, _ = _follow(video, models, extractor, mirror=False)
    motion = sides[:, 0]
    return ImplicitTrack(
        motion, track.found, calmest_frame(track.landmarks.astype(np.float64), motion)
    )


def track_implicit_faces(
    video: Callable[[], Iterable[tuple[float, Picture]]],
    models: FaceModels,
    extractor: MotionExtractor,
) -> ImplicitFaces:
    """Landmarks, motion and identity of the face in a video, and those of its mirror image.

    The networks see the mirror image of the crop: what they say of it is no mirrored motion.

    Args:
        video: begins the video, pictures with their times in seconds; it is read twice.
        extractor: computes where its weights are.

    Raises:
        FaceError: fewer than two pictures show a face.
        MediaError: there are fewer pictures the second time.
    """
    track, motion, identity = _follow(video, models, extractor, mirror=True)
    return ImplicitFaces(track, np.ascontiguousarray(motion.swapaxes(0, 1)), identity)


def _follow(
    video: Callable[[], Iterable[tuple[float, Picture]]],
    models: FaceModels,
    extractor: MotionExtractor,
    *,
    mirror: bool,
) -> tuple[LandmarkTrack, Floats, Floats]:
    """Landmarks and raw motion (T, S, 70) at 25 fps, and canonical key points (S, 63).

    S is 1, or 2 with the mirror image; key points are means over the pictures that show the face.
    """
    times, landmarks, cuts = follow_face(video(), models)
    num_frames = num_grid_frames(times)
    on_grid, found = resample_frames(landmarks, times, num_frames, cuts)
    seen = np.isfinite(landmarks[:, 0, 0])
    values = _extract(video(), seen, steady_crop(landmarks[seen]), extractor, mirror=mirror)
    motion, _ = resample_frames(values[:, :, :MOTION_SIZE], times, num_frames, cuts)
    return LandmarkTrack(on_grid, found), motion, values[seen, :, MOTION_SIZE:].mean(axis=0)


def steady_crop(landmarks: NDArray[np.float32]) -> CropGeometry:
    """One square for all frames of a clip, landmarks (N, 478, 3) without NaN.

    Centre, side and angle are medians of those of the frames. The square is larger where the face
    walks through the picture.
    """
    frames = [crop_geometry(crop_points(points.astype(np.float64))) for points in landmarks]
    centres = np.array([frame.centre for frame in frames])
    angles = np.array([frame.angle for frame in frames])
    usual = np.arctan2(np.sin(angles).mean(), np.cos(angles).mean())
    turns = (angles - usual + np.pi) % (2 * np.pi) - np.pi
    side = float(np.median([frame.side_px for frame in frames]))
    centre = np.median(centres, axis=0)
    wandering = np.percentile(np.abs(centres - centre).max(axis=1), USUAL_SHARE)
    side = max(side, 2 * (float(wandering) + FACE_REACH * side))
    return square_crop(centre, side, float(usual + np.median(turns)))


def calmest_frame(landmarks: Array, motion: Floats) -> int:
    """The frame of a clip that is nearest to a face at rest.

    Lips closed, eyes as open as usual, and the head as the clip usually holds it: the first frame
    may well be in the middle of a word or of a blink.

    Args:
        landmarks: (T, 478, 3).
        motion: (T, 70) of the same frames.
    """
    opening = eye_opening(landmarks)
    parts = split_motion(motion)
    angles = np.stack([parts.pitch, parts.yaw, parts.roll], axis=-1)
    away = np.abs(angles - np.median(angles, axis=0)).max(axis=1)
    cost = (
        lip_gap(landmarks) / CALM_LIP_GAP
        + np.abs(opening - np.percentile(opening, 75)) / CALM_EYE_OPENING
        + away / CALM_DEGREES
    )
    return int(np.argmin(cost))


def relative_motion(driving: ImplicitTrack, rest: Floats) -> Floats:
    """Motion (T, 70) that moves another face as a video's face moves from its calm frame.

    With the calm frame ``0``: rotation ``R_t R_0^T R``, expression ``e + e_t - e_0``, scale
    ``s s_t / s_0``, translation ``t + t_t - t_0``, where the letters without index are the other
    face's own. The calm frame gives that face as it is (relative motion of face-vid2vid and
    LivePortrait, arXiv 2407.03168, section 3.4).

    Args:
        driving: the video's motion.
        rest: (70,) the other face's own motion.
    """
    own, moving = split_motion(rest), split_motion(driving.motion)
    calm = split_motion(driving.motion[driving.calm_frame])
    turn = rotation_from_angles(moving.pitch, moving.yaw, moving.roll)
    calm_turn = rotation_from_angles(calm.pitch, calm.yaw, calm.roll)
    own_turn = rotation_from_angles(own.pitch, own.yaw, own.roll)
    expression = own.expression + (moving.expression - calm.expression)
    scale = own.scale * (moving.scale / calm.scale)
    translation = own.translation + (moving.translation - calm.translation)
    angles = angles_from_rotation((turn @ calm_turn.T @ own_turn).astype(np.float32))
    parts = [expression.reshape(-1, EXPRESSION_SIZE), scale[:, None], translation]
    return np.concatenate([*parts, np.stack(angles, axis=1)], axis=1, dtype=np.float32)


def _extract(
    pictures: Iterable[tuple[float, Picture]],
    seen: NDArray[np.bool_],
    geometry: CropGeometry,
    extractor: MotionExtractor,
    *,
    mirror: bool,
) -> Floats:
    """Motion and canonical key points (N, 1, 133) of N pictures, NaN where no face is seen.

    With ``mirror`` they are (N, 2, 133), the second of the mirror image.

    Raises MediaError if there are fewer pictures than ``seen`` says.
    """
    flips = (slice(None), slice(None, None, -1))[: 2 if mirror else 1]
    values = np.full((len(seen), len(flips), MOTION_SIZE + EXPRESSION_SIZE), np.nan, np.float32)
    for indices, crops in _batches(pictures, seen, geometry):
        for side, flip in enumerate(flips):
            faces = extract_faces(extractor, np.ascontiguousarray(crops[:, :, flip]))
            values[indices, side] = [
                np.concatenate([face.motion, face.canonical_keypoints.reshape(-1)])
                for face in faces
            ]
    if not np.isfinite(values[seen]).all():
        raise MediaError("the video had fewer pictures when it was read again; save it again")
    return values


def _batches(
    pictures: Iterable[tuple[float, Picture]], seen: NDArray[np.bool_], geometry: CropGeometry
) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
    """Indices and crops (B, 256, 256, 3) of the pictures with a face."""
    indices: list[int] = []
    crops: list[Picture] = []
    for index, ((_, picture), shows_face) in enumerate(zip(pictures, seen, strict=False)):
        if shows_face:
            indices.append(index)
            crops.append(extractor_picture(crop_picture(picture, geometry)))
        if len(crops) == BATCH_SIZE:
            yield indices, np.stack(crops)
            indices, crops = [], []
    if crops:
        yield indices, np.stack(crops)
