"""Whether a tracked clip is worth training on, and if not, why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.data.clips import read_shards
from moda.data.sync import correlation_at_lag
from moda.encoders.face import FaceModels
from moda.encoders.speech import encode_speech
from moda.encoders.tracking import LandmarkTrack
from moda.motion.hearing.lips import lips_of_motion, predicted_mean
from moda.motion.hearing.listening import join_speech
from moda.structures import Floats, Picture
from moda.structures.landmarks import STABLE, Array, eye_distance, lip_gap
from moda.weights.checkpoints import Checkpoint

CROWD_STEP_SECONDS = 1.0
"""How often all faces of a picture are counted."""
SMALLEST_BYSTANDER = 0.5
"""Faces smaller than this share of the largest are background."""
THUMBNAIL_PX = 32
"""Side of the pictures that are compared."""
MAX_LAG_FRAMES = 8
DISAGREE = "sound and lips disagree"
"""The reason of clips in which ``moda-tiny`` expects other lips."""
MAX_NEEDED_CORRELATION = 0.5
"""More is not asked of the shortest clips: right pairs do not always have it."""


@dataclass(frozen=True)
class QualityLimits:
    """What a clip must keep to; docs/corpora.md has what was measured on real clips."""

    min_seconds: float = 1.0
    min_found_share: float = 0.8
    """of the frames show the face"""
    min_eye_distance_px: float = 20.0
    """between the outer eye corners, median over the clip"""
    max_jump: float = 0.7
    """way of the face from a frame to the next in eye distances"""
    max_change: float = 18.0
    """sudden, of a picture from the one before, see :meth:`PictureWatch.largest_change`"""
    max_crowd_share: float = 0.25
    """of the counted pictures show several faces"""
    min_speech_share: float = 0.1
    """of the frames have speech, where there is sound"""
    min_lip_correlation: float = 0.3
    """of the lip gap with what the built-in model expects from the sound, at the best offset"""
    min_lip_correlation_of_a_second: float = 0.9
    """the same where chance helps: over the root of the seconds, and never more than 0.5"""


class PictureWatch:
    """Looks at pictures while they pass by: how many faces, and how much changes at once."""

    def __init__(self, models: FaceModels) -> None:
        self._models = models
        self._next_count_seconds = -np.inf
        self._before: Array | None = None
        self._changes: list[float] = []
        self._times: list[float] = []
        self.counts: list[int] = []
        """faces in the pictures of which they were counted"""

    def pass_on(self, pictures: Iterable[tuple[float, Picture]]) -> Iterator[tuple[float, Picture]]:
        """Pictures with their times, unchanged."""
        for seconds, picture in pictures:
            self._compare(seconds, picture)
            if seconds >= self._next_count_seconds:
                self._next_count_seconds = seconds + CROWD_STEP_SECONDS
                heights = [face.height for face in self._models.find_faces(picture, search="whole")]
                large = [h for h in heights if h >= SMALLEST_BYSTANDER * max(heights)]
                self.counts.append(len(large))
            yield seconds, picture

    @property
    def crowd_share(self) -> float:
        """Share of the counted pictures with several faces."""
        return float(np.mean([count > 1 for count in self.counts])) if self.counts else 0.0

    def largest_change(self) -> tuple[float, float]:
        """How much a picture differs from the one before, at most, and when that was, in seconds.

        Mean difference of small grey pictures of 0..255, beyond that of the pictures before and
        after: a cut is sudden, a fast movement goes on.
        """
        if not self._changes:
            return 0.0, 0.0
        changes = np.pad(self._changes, 1)
        sudden = changes[1:-1] - np.maximum(changes[:-2], changes[2:])
        index = int(sudden.argmax())
        return max(0.0, float(sudden[index])), self._times[index]

    def _compare(self, seconds: float, picture: Picture) -> None:
        size = (THUMBNAIL_PX, THUMBNAIL_PX)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).mean(axis=2, dtype=float)
        if self._before is not None:
            self._changes.append(float(np.abs(small - self._before).mean()))
            self._times.append(seconds)
        self._before = small


def check_picture(track: LandmarkTrack, watch: PictureWatch, limits: QualityLimits) -> list[str]:
    """What speaks against the picture of a clip; a reason begins with a few words and a colon."""
    reasons = []
    seconds = len(track) / track.frames_per_second
    if seconds < limits.min_seconds:
        reasons.append(f"too short: {seconds:.2f} s, at least {limits.min_seconds:g} s are needed")
    found = float(track.found.mean())
    if found < limits.min_found_share:
        reasons.append(
            f"no face: it is seen in {found:.0%} of the frames, at least "
            f"{limits.min_found_share:.0%} are needed"
        )
    size = float(np.median(eye_distance(track.landmarks.astype(np.float64))))
    if size < limits.min_eye_distance_px:
        reasons.append(
            f"face too small: {size:.0f} pixels between the eye corners, at least "
            f"{limits.min_eye_distance_px:g} are needed"
        )
    jump, jump_seconds = largest_jump(track)
    change, change_seconds = watch.largest_change()
    if jump > limits.max_jump:
        reasons.append(
            f"cut inside: the face jumps by {jump:.2f} eye distances at {jump_seconds:.2f} s, at "
            f"most {limits.max_jump:g} are allowed"
        )
    elif change > limits.max_change:
        reasons.append(
            f"cut inside: the picture changes by {change:.0f} of 255 at {change_seconds:.2f} s, at "
            f"most {limits.max_change:g} are allowed"
        )
    if watch.crowd_share > limits.max_crowd_share:
        reasons.append(
            f"several faces: in {watch.crowd_share:.0%} of the pictures, at most "
            f"{limits.max_crowd_share:.0%} are allowed"
        )
    return reasons


def check_sound(
    track: LandmarkTrack, sound: Floats, judge: Checkpoint, limits: QualityLimits
) -> list[str]:
    """What speaks against the sound (N,) of a clip; ``judge`` predicts lips from it."""
    speech = join_speech(list(encode_speech([sound])))
    active = float((speech.activity > 0.5).mean())
    if active < limits.min_speech_share:
        return [
            f"silence: speech in {active:.0%} of the frames, at least "
            f"{limits.min_speech_share:.0%} are needed"
        ]
    agreement = lip_agreement(track, speech.features, judge)
    needed = needed_agreement(len(track) / track.frames_per_second, limits)
    if agreement < needed:
        return [f"{DISAGREE}: correlation {agreement:.3f}, at least {needed:.2f} is needed"]
    return []


def count_disagreeing(folders: Sequence[Path], speakers: Collection[str]) -> int:
    """Clips of some speakers that ``moda prepare`` left out because ``moda-tiny`` disagreed.

    Raises:
        CheckpointError: A folder holds no prepared clips, or a file is damaged.
    """
    entries = [e for folder in folders for shard in read_shards(folder) for e in shard.entries]
    return sum(
        any(reason.startswith(DISAGREE) for reason in entry.reasons)
        for entry in entries
        if entry.status == "skipped" and entry.speaker in speakers
    )


def needed_agreement(seconds: float, limits: QualityLimits) -> float:
    """Least correlation of lips and sound of a clip: short clips reach more by chance."""
    by_chance = limits.min_lip_correlation_of_a_second / np.sqrt(seconds)
    return max(limits.min_lip_correlation, float(min(by_chance, MAX_NEEDED_CORRELATION)))


def largest_jump(track: LandmarkTrack) -> tuple[float, float]:
    """Largest way of the face between two frames in a row that both show it, and when it was.

    In eye distances, and in seconds.
    """
    points = track.landmarks[:, list(STABLE), :2].astype(np.float64)
    way = np.linalg.norm(np.diff(points, axis=0), axis=-1).mean(1)
    both: NDArray[np.bool_] = track.found[1:] & track.found[:-1]
    if not both.any():
        return 0.0, 0.0
    size = float(np.median(eye_distance(track.landmarks.astype(np.float64))))
    frame = int(np.where(both, way, -1.0).argmax())
    return float(way[frame]) / size, (frame + 1) / track.frames_per_second


def lip_agreement(track: LandmarkTrack, features: Floats, judge: Checkpoint) -> float:
    """Correlation of the lip gap with the one that a model predicts, at the best offset.

    docs/corpora.md has what right and wrong pairs reach.
    """
    predicted = predicted_mean(judge.model, judge.space, features)
    expected, _ = lips_of_motion(predicted)
    gap: Array = lip_gap(track.landmarks.astype(np.float64))
    count = min(len(gap), len(expected))
    lags = range(-MAX_LAG_FRAMES, MAX_LAG_FRAMES + 1)
    return max(correlation_at_lag(expected[:count], gap[:count], lag) for lag in lags)
