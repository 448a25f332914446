"""Motion metrics as pure functions on the landmarks (T, 478, 3) of a video at 25 fps, in pixels.

Lengths are in hundredths of the distance of the outer eye corners (about a millimetre on an adult
face), so that they do not depend on the size of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from moda.data.sync import correlation_at_lag
from moda.encoders.tracking import blink_from_openness, lid_openness, remove_pose
from moda.evaluation.metrics import (
    blinks_per_minute,
    closed_share,
    joined_steps,
    lagged_correlation,
)
from moda.evaluation.model.articulation import CLOSING, num_closed, random_spans, segments
from moda.evaluation.model.silence import settled_silence
from moda.phones import Labels, Phone
from moda.structures import FRAMES_PER_SECOND
from moda.structures.landmarks import (
    LIPS,
    NUM_SURFACE,
    STABLE,
    Array,
    euler_from_rotation,
    eye_distance,
    lip_gap,
)

CLOSED_GAP = 0.02
"""Lips nearer than this, in units of the outer-eye distance, count as closed in a video: the inner
lip lines never meet in the tracker's eyes. In the pause of the example, where the built-in model
keeps the lips closed, they are 0.013 to 0.019 apart."""
MIN_HALF_CORRELATION = 0.3
"""Below it, the lag of half a clip is not known."""
POSE_WINDOW = 5
"""Frames of the smoothing that takes the tracker's noise out of the pose."""


class LipTiming(NamedTuple):
    """How lips follow the real ones."""

    correlation: float
    """Pearson, at the best lag within 6 frames"""
    lag_seconds: float
    """positive: the lips are later than the real ones"""
    drift_seconds_per_minute: float
    """how the lag of the second half differs from that of the first; NaN where it is not known"""


def landmark_distance(landmarks: Array, real: Array) -> float:
    """Mean distance of the face points from the real ones, pose and place included.

    Both (T, 478, 3); depth is left out. In hundredths of the real outer-eye distance.
    """
    difference = (landmarks - real)[:, :NUM_SURFACE, :2]
    return _mean_distance(difference, real)


def mouth_landmark_distance(landmarks: Array, real: Array) -> float:
    """Mean distance of the lip points from the real ones, the middle of the lips laid together.

    Source: L. Chen et al., "Lip Movements Generation at a Glance", ECCV 2018, section 4.2, with
    the face's size as the unit instead of pixels.
    """
    lips = list(LIPS)
    ours, theirs = landmarks[:, lips, :2], real[:, lips, :2]
    difference = (ours - ours.mean(1, keepdims=True)) - (theirs - theirs.mean(1, keepdims=True))
    return _mean_distance(difference, real)


def expression_distance(landmarks: Array, real: Array) -> float:
    """Mean distance of the face points once the pose of both is removed: the expression alone."""
    reference = np.median(remove_pose(real, real[0])[0], axis=0)
    ours, theirs = (remove_pose(points, reference)[0] for points in (landmarks, real))
    distances = np.linalg.norm((ours - theirs)[:, :NUM_SURFACE, :2], axis=-1)
    return 100.0 * float(distances.mean()) / float(eye_distance(reference))


def lip_timing(gap: Array, real_gap: Array) -> LipTiming:
    """Correlation, lag and drift of a lip gap (T,) against the real one (T,)."""
    whole = lagged_correlation(real_gap, gap)
    half = min(len(gap), len(real_gap)) // 2
    halves = [
        lagged_correlation(real_gap[part], gap[part])
        for part in (slice(0, half), slice(half, 2 * half))
    ]
    drift = float("nan")
    if min(found.correlation for found in halves) >= MIN_HALF_CORRELATION:
        minutes_apart = half / FRAMES_PER_SECOND / 60.0
        drift = (halves[1].lag - halves[0].lag) / FRAMES_PER_SECOND / minutes_apart
    if whole.correlation <= 0.0:
        return LipTiming(correlation_at_lag(real_gap, gap, 0), float("nan"), drift)
    return LipTiming(whole.correlation, whole.lag / FRAMES_PER_SECOND, drift)


def mouth_amplitude(landmarks: Array) -> float:
    """Standard deviation of the lip gap, in hundredths of the outer-eye distance."""
    return 100.0 * float(lip_gap(landmarks).std())


def closure_share(gap: Array, labels: Labels) -> tuple[float, float]:
    """Share of the p, b, m with closed lips in at least one frame, and the same by chance.

    Args:
        gap: (T,) lip gap in units of the outer-eye distance.
        labels: (N,) phone classes at 100 Hz, see :mod:`moda.phones`.

    Returns:
        NaN where there is no p, b or m; chance is that of random windows of other sounds.
    """
    count = min(len(gap), len(labels) // 4)
    labels, gap = labels[: 4 * count], gap[:count]
    spans = segments(labels, CLOSING)
    others = random_spans(labels, spans, (*CLOSING, Phone.SILENCE), np.random.default_rng(0))
    return _closed(gap, spans), _closed(gap, others)


def silence_share(gap: Array, silent: NDArray[np.bool_]) -> float:
    """Share of the silent frames (T,) with closed lips; NaN where nobody is ever silent."""
    return closed_share(gap, settled_silence(silent[: len(gap)]), CLOSED_GAP)


def blink_rate(landmarks: Array) -> float:
    """Closings of the lids per minute, relative to the eyes' usual opening."""
    openness = lid_openness(landmarks)
    if (openness.max(0) < 1e-6).any():
        return float("nan")
    blink = blink_from_openness(openness).mean(1)
    return blinks_per_minute(blink)


def head_angles(landmarks: Array, rest: Array) -> Array:
    """(T, 3) pitch, yaw and roll in degrees against the face ``rest`` (478, 3), noise smoothed."""
    _, _, rotations, _ = remove_pose(landmarks, _in_eye_units(rest))
    angles = np.array([euler_from_rotation(rotation) for rotation in rotations])
    if len(angles) < POSE_WINDOW:
        return angles
    return savgol_filter(angles, POSE_WINDOW, 2, axis=0)


def head_amplitude(angles: Array) -> float:
    """Standard deviation of the head's angles (T, 3) over the video, mean of the three, degrees."""
    return float(angles.std(0).mean())


def head_diversity(videos: Sequence[Array]) -> float:
    """Mean distance in degrees of the head's angles (T, 3) between videos of several seeds.

    Mean over all pairs and their common frames; NaN of fewer than two videos.
    """
    distances = [
        np.linalg.norm(first[: len(second)] - second[: len(first)], axis=1).mean()
        for first, second in combinations(videos, 2)
    ]
    return float(np.mean(distances)) if distances else float("nan")


def jerk(track: Array) -> float:
    """Root mean square of the third derivative of a point's path (T, n) at 25 fps, units per s³.

    Source: T. Flash and N. Hogan, "The Coordination of Arm Movements", 1985: smooth movement has
    little jerk. NaN of fewer than four frames.
    """
    if len(track) < 4:
        return float("nan")
    third = np.diff(track, n=3, axis=0) * FRAMES_PER_SECOND**3
    return float(np.sqrt((third**2).sum(1).mean()))


def head_jerk(landmarks: Array) -> float:
    """Jerk of the mean of the stable points, in outer-eye distances per s³."""
    unit = float(np.median(eye_distance(landmarks)))
    return jerk(landmarks[:, list(STABLE), :2].mean(1) / unit)


def lip_jerk(landmarks: Array) -> float:
    """Jerk of the lip gap, in outer-eye distances per s³."""
    return jerk(lip_gap(landmarks)[:, None])


def border_jump(angles: Array, stride: int, overlap: int) -> float:
    """Largest steps of the head where windows join, over those elsewhere; 1 is seamless.

    95th percentiles of the angular steps from frame to frame. ``stride`` and ``overlap`` are those
    of the method's windows in frames. NaN without windows, or of a video shorter than two.
    """
    steps = np.linalg.norm(np.diff(angles, axis=0), axis=1)
    if stride <= 0 or len(steps) < stride + max(overlap, 1):
        return float("nan")
    joined = joined_steps(len(steps), stride, max(overlap, 1))
    elsewhere = float(np.percentile(steps[~joined], 95))
    if elsewhere < 1e-9:
        return float("nan")
    return float(np.percentile(steps[joined], 95)) / elsewhere


def _mean_distance(difference: Array, real: Array) -> float:
    distances = np.linalg.norm(difference, axis=-1).mean(1)
    return 100.0 * float((distances / eye_distance(real)).mean())


def _closed(gap: Array, spans: Sequence[tuple[int, int]]) -> float:
    return num_closed(gap, spans, CLOSED_GAP) / len(spans) if spans else float("nan")


def _in_eye_units(face: Array) -> Array:
    centred = face - face[list(STABLE)].mean(0)
    return centred / eye_distance(face)
