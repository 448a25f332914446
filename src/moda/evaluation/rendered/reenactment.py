"""How near does the renderer come to the real video, when one frame of it is the portrait?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.encoders.face import FaceModels
from moda.encoders.portrait import encode_portrait
from moda.encoders.tracking import (
    DRIVING_POSE_FRAMES,
    LandmarkTrack,
    lid_openness,
    motion_from_landmarks,
    remove_pose,
    track_landmarks,
)
from moda.errors import FaceError
from moda.evaluation.metrics import psnr
from moda.media import VideoReader
from moda.rendering.mesh.renderer import MeshRenderer
from moda.structures import FRAMES_PER_SECOND, Motion, MotionSpace, Picture
from moda.structures.landmarks import FACE_OVAL, Array, lip_gap

MOUTH_REGION = (
    2, 129, 203, 206, 216, 212, 202, 211, 32, 208, 199, 428, 262, 431, 422, 432, 436, 426, 423, 358,
)  # fmt: skip
"""Outline from the nose base over the smile folds to the chin."""


@dataclass(frozen=True)
class ReenactmentScore:
    """PSNR in dB against the real frames; ``still`` is that of the photograph, not moved."""

    name: str
    face: float
    face_still: float
    mouth: float
    mouth_still: float

    def row(self) -> str:
        """A line of a Markdown table."""
        return (
            f"| {self.name} | {self.face:.1f} | {self.face_still:.1f} | {self.mouth:.1f} | "
            f"{self.mouth_still:.1f} |"
        )


def self_reenactment(
    video: Path, models: FaceModels, space: MotionSpace, *, num_frames: int = 40
) -> tuple[ReenactmentScore, list[tuple[Picture, Picture]]]:
    """Animate the calmest frame of a video with the video's own motion.

    Brightness is aligned per frame and channel, as cameras expose automatically. Returns the score
    and five pairs of a real and a rendered frame.

    Raises:
        FaceError: the video shows no face.
    """
    reader = VideoReader(video)
    track = track_landmarks(reader.timed_pictures(), models)
    landmarks = track.landmarks.astype(np.float64)
    source = calmest_frame(landmarks)
    motion = own_motion(track, space, source)
    chosen = np.linspace(0, len(track) - 1, min(num_frames, len(track))).astype(int)
    chosen = chosen[chosen != source]  # a frame is infinitely near to itself
    pictures = dict(_frames_at(reader, {source, *chosen.tolist()}))
    chosen = np.array([index for index in chosen if index in pictures])
    if source not in pictures or not len(chosen):
        raise FaceError(f"{video} ends before its last tracked frame; it is damaged")
    portrait = encode_portrait(pictures[source], space, models=models)
    size = max(pictures[source].shape[:2]) // 2 * 2
    renderer = MeshRenderer(portrait, space, size=size)
    rendered = renderer.render(Motion(motion.values[chosen], space))
    rows, pairs = [], []
    scale = renderer.frame_size[0] / pictures[source].shape[1]
    for index, picture in zip(chosen, rendered, strict=True):
        real = cv2.resize(pictures[index], renderer.frame_size, interpolation=cv2.INTER_AREA)
        still = cv2.resize(pictures[source], renderer.frame_size, interpolation=cv2.INTER_AREA)
        masks = region_masks(landmarks[index, :, :2] * scale, real.shape[:2])
        face, mouth = masks
        moved, unmoved = match_gain(picture, real, face), match_gain(still, real, face)
        rows.append([psnr(p, real, m) for m in (face, mouth) for p in (moved, unmoved)])
        pairs.append((real.astype(np.uint8), picture))
    means = np.mean(rows, axis=0)
    score = ReenactmentScore(video.stem, *(float(value) for value in means))
    return score, pairs[:: max(1, len(pairs) // 5)][:5]


def own_motion(track: LandmarkTrack, space: MotionSpace, source: int) -> Motion:
    """Motion of a tracked video for a portrait that is its frame ``source``, at rest there."""
    assert space.canonical_face is not None
    landmarks = track.landmarks.astype(np.float64)
    usual = np.median(remove_pose(landmarks, space.canonical_face.astype(np.float64))[0], axis=0)
    as_photographed = remove_pose(landmarks[source : source + 1], usual)[0][0]
    motion, _ = motion_from_landmarks(
        track,
        space,
        neutral=as_photographed,
        rest_frame=source,
        pose_frames=DRIVING_POSE_FRAMES,
    )
    return motion


def calmest_frame(landmarks: Array) -> int:
    """Index of the frame with nearly closed lips and open eyes nearest to the usual place."""
    gap, openness = lip_gap(landmarks), lid_openness(landmarks).mean(1)
    nose = landmarks[:, 1, :2]
    away = np.linalg.norm(nose - np.median(nose, axis=0), axis=1)
    face = np.linalg.norm(landmarks[:, 10] - landmarks[:, 152], axis=1).mean()
    cost = gap / 0.02 + np.abs(openness - np.percentile(openness, 75)) / 0.05 + away / (0.1 * face)
    return int(np.argmin(cost))


def _frames_at(reader: VideoReader, wanted: set[int]) -> Iterator[tuple[int, Picture]]:
    """Pictures nearest to the wanted frames of the 25 fps grid."""
    remaining = sorted(wanted)
    last: tuple[float, Picture] | None = None
    for seconds, picture in reader.timed_pictures():
        while remaining and last and seconds * FRAMES_PER_SECOND >= remaining[0]:
            nearer = abs(last[0] - remaining[0] / FRAMES_PER_SECOND) <= abs(
                seconds - remaining[0] / FRAMES_PER_SECOND
            )
            yield remaining.pop(0), last[1] if nearer else picture
        last = (seconds, picture)
    while remaining and last and remaining[0] <= last[0] * FRAMES_PER_SECOND + 1:
        yield remaining.pop(0), last[1]


def region_masks(
    points: Array, shape: Sequence[int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks (H, W) of the face and of the mouth region from points (478, 2) in pixels."""

    def mask(outline: tuple[int, ...]) -> NDArray[np.bool_]:
        picture = np.zeros(tuple(shape[:2]), np.uint8)
        cv2.fillPoly(picture, [np.round(points[list(outline)]).astype(np.int32)], (1,))
        return picture.astype(bool)

    return mask(FACE_OVAL), mask(MOUTH_REGION)


def match_gain(
    picture: NDArray[np.generic], real: NDArray[np.generic], where: NDArray[np.bool_]
) -> Picture:
    """Scale the channels of ``picture`` to the means of ``real`` inside the mask."""
    values = picture.astype(np.float64)
    gain = real[where].astype(np.float64).mean(0) / values[where].mean(0)
    return np.clip(values * gain, 0, 255).round().astype(np.uint8)
