"""All figures of one video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

import cv2
import numpy as np

from moda.encoders.face import FaceModels
from moda.encoders.tracking import LandmarkTrack, track_frames
from moda.errors import FaceError, InputError
from moda.evaluation.metrics import silence_runs
from moda.evaluation.videos import motion, pictures
from moda.evaluation.videos.metrics import STATED
from moda.evaluation.videos.networks.identity import similarity_2d
from moda.evaluation.videos.networks.learned import Scorer
from moda.evaluation.videos.references import (
    SAMPLES_PER_FRAME,
    Reference,
    resized,
)
from moda.evaluation.videos.rows import RowVideo
from moda.structures import FRAMES_PER_SECOND, Picture
from moda.structures.landmarks import STABLE, Array, lip_gap

MAX_ASPECT_DIFFERENCE = 0.02
"""Of width over height, for which a change of size is no distortion worth the name."""


@dataclass(frozen=True)
class Measured:
    """Figures of one video, by the keys of the metrics, and the curves that are drawn."""

    row: str
    clip: str
    seed: int | None
    figures: dict[str, float]
    lip_gap: Array = field(repr=False)  # (T,)
    angles: Array = field(repr=False)  # (T, 3)


class Placement(NamedTuple):
    """How frames of a video come to lie on those of the reference."""

    matrix: Array  # (2, 3): video pixels to reference pixels
    size: tuple[int, int]
    is_scaling: bool
    """whether it is only a change of size"""

    def picture(self, frame: Picture) -> Picture:
        """A frame in the reference's pixels."""
        if self.is_scaling:
            return resized(frame, self.size)
        scale = float(np.hypot(*self.matrix[0, :2]))
        matrix = self.matrix
        if scale < 0.8:  # average first what would otherwise alias
            height, width = frame.shape[:2]
            smaller = (max(2, round(width * scale)), max(2, round(height * scale)))
            frame = resized(frame, smaller)
            matrix = matrix @ np.diag([width / smaller[0], height / smaller[1], 1.0])
        return np.asarray(cv2.warpAffine(frame, matrix, self.size), np.uint8)

    def points(self, landmarks: Array) -> Array:
        """Landmarks (T, 478, 3) in the reference's pixels; depth is scaled along."""
        moved = landmarks @ np.pad(self.matrix[:, :2], ((0, 1), (0, 1))).T
        moved[..., :2] += self.matrix[:, 2]
        moved[..., 2] = landmarks[..., 2] * np.sqrt(abs(np.linalg.det(self.matrix[:, :2])))
        return moved


def measure_video(
    video: RowVideo, reference: Reference, models: FaceModels, scorers: Sequence[Scorer]
) -> Measured:
    """Track a video, compare its frames, and gather every figure that its clip allows.

    Raises:
        FaceError: the video shows no face.
        InputError: it shows another part of the scene than the inputs.
    """
    if video.is_real:
        assert reference.track is not None
        track = reference.track
        placement = Placement(np.eye(2, 3), reference.size, True)
    else:
        track = _track(video, models)
        placement = place(video, track, reference)
    landmarks = placement.points(track.landmarks.astype(np.float64))
    figures = {
        "face_found": float(track.found.mean()),
        "length_difference": (len(track) - len(reference.samples) / SAMPLES_PER_FRAME)
        / FRAMES_PER_SECOND,
        **motion_figures(video, landmarks, reference),
        **{key: getattr(video.cost, key) or float("nan") for key in STATED},
        **picture_figures(video, placement, landmarks, reference, models, scorers),
    }
    known = {key: value for key, value in figures.items() if np.isfinite(value)}
    return Measured(
        video.row,
        video.clip,
        video.seed,
        known,
        lip_gap(landmarks),
        motion.head_angles(landmarks, reference.portrait_landmarks),
    )


def place(video: RowVideo, track: LandmarkTrack, reference: Reference) -> Placement:
    """How the video lies on the reference, by its alignment.

    Raises:
        InputError: the shape of the picture is another one, though the video should show the same.
    """
    width, height = reference.size
    if video.alignment == "face":
        stable = list(STABLE)
        target = (
            reference.track.landmarks if reference.track else reference.portrait_landmarks[None]
        )
        ours, theirs = (
            np.median(points[:, stable, :2].astype(np.float64), axis=0)
            for points in (track.landmarks, np.asarray(target))
        )
        return Placement(similarity_2d(ours, theirs), (width, height), False)
    frame = next(video.frames())
    own_height, own_width = frame.shape[:2]
    if abs(own_width / own_height / (width / height) - 1.0) > MAX_ASPECT_DIFFERENCE:
        raise InputError(
            f"{video.path} has {own_width} x {own_height} pixels, the inputs have {width} x "
            f'{height}: it shows another part; set "alignment": "face" for {video.row}'
        )
    scale = np.array([[width / own_width, 0.0, 0.0], [0.0, height / own_height, 0.0]])
    return Placement(scale, (width, height), True)


def motion_figures(video: RowVideo, landmarks: Array, reference: Reference) -> dict[str, float]:
    """What the landmarks (T, 478, 3) of a video say."""
    gap = lip_gap(landmarks)
    angles = motion.head_angles(landmarks, reference.portrait_landmarks)
    figures = {
        "mouth_amplitude": motion.mouth_amplitude(landmarks),
        "silence_closed": motion.silence_share(gap, silence_runs(reference.samples)),
        "lip_jerk": motion.lip_jerk(landmarks),
        "blinks": motion.blink_rate(landmarks),
        "head_amplitude": motion.head_amplitude(angles),
        "head_jerk": motion.head_jerk(landmarks),
        "border_jump": motion.border_jump(angles, video.window.stride, video.window.overlap),
    }
    if reference.labels is not None:
        closed, chance = motion.closure_share(gap, reference.labels)
        figures |= {"closure": closed, "closure_chance": chance}
    if reference.track is None or video.is_real:
        return figures
    count = min(len(landmarks), len(reference.track))
    ours, real = landmarks[:count], reference.track.landmarks[:count].astype(np.float64)
    timing = motion.lip_timing(gap[:count], lip_gap(real))
    return figures | {
        "lmd": motion.landmark_distance(ours, real),
        "mouth_lmd": motion.mouth_landmark_distance(ours, real),
        "expression_lmd": motion.expression_distance(ours, real),
        "lip_correlation": timing.correlation,
        "lip_lag": timing.lag_seconds,
        "lip_drift": timing.drift_seconds_per_minute,
    }


def picture_figures(
    video: RowVideo,
    placement: Placement,
    landmarks: Array,
    reference: Reference,
    models: FaceModels,
    scorers: Sequence[Scorer],
) -> dict[str, float]:
    """What the frames say, each decoded once more; memory is that of one frame."""
    background = pictures.BackgroundMotion(
        pictures.background_mask(models.person_mask(reference.portrait))
    )
    real_landmarks = reference.track.landmarks.astype(np.float64) if reference.track else None
    scores: list[pictures.PictureScore] = []
    for scorer in scorers:
        scorer.start(video.row, reference, landmarks)
    for index, (frame, real) in enumerate(_paired(video, reference)):
        picture = placement.picture(frame)
        background.see(picture)
        comparable = None if video.is_real or index == reference.source_index else real
        if comparable is not None and real_landmarks is not None:
            where = pictures.regions(real_landmarks[index], reference.size)
            scores.append(pictures.compare_pictures(picture, comparable, where))
        for scorer in scorers:
            scorer.see(index, picture, comparable)
    figures = {"background_motion": background.pixels_per_frame(), **pictures.mean_scores(scores)}
    for scorer in scorers:
        figures |= scorer.finish()
    return figures


def _paired(video: RowVideo, reference: Reference) -> Iterator[tuple[Picture, Picture | None]]:
    """Frames with the real ones, as long as there are frames."""
    real: Iterator[Picture | None] = iter(())
    if reference.real is not None and not video.is_real:
        real = reference.real.frames()
    for frame, other in zip_longest(video.frames(), real):
        if frame is None:
            return
        yield frame, other


def _track(video: RowVideo, models: FaceModels) -> LandmarkTrack:
    try:
        return track_frames(video.frames(), models)
    except FaceError as error:
        raise FaceError(f"{video.row}, clip {video.clip}, {video.path}: {error}") from error
