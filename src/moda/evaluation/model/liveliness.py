"""Does the rest of the face live? Blinks, head, brows, gaze, window joins and drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moda.data.clips import PreparedClip
from moda.encoders.tracking import motion_from_landmarks
from moda.evaluation.metrics import (
    blink_onsets,
    blinks_per_minute,
    drift,
    joined_steps,
    lagged_correlation,
    pose_steps,
)
from moda.evaluation.model.lips import hear, sampled_motion, sound_spectra
from moda.motion.hearing.lips import lips_of_motion
from moda.motion.sampler import smooth_pose
from moda.structures import FRAMES_PER_SECOND, Floats, Motion, MotionSpace
from moda.structures.landmarks import Array
from moda.weights.checkpoints import Checkpoint

WINDOW_SECONDS = 5.0
GAZE_AWAY = 0.02
"""Irises further from the middle than this, in canonical units, look away (about 5 degrees)."""
BROW_POINTS = (107, 55, 336, 285, 105, 334)
OTHER_SEED_SECONDS = 120.0


@dataclass(frozen=True)
class Quartiles:
    """Of one figure over real clips."""

    low: float
    middle: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies between the quartiles."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:.3g} to {self.high:.3g}, median {self.middle:.3g}"


@dataclass(frozen=True)
class Activity:
    """How much a stretch of motion moves, medians over windows of 5 s."""

    head_amplitude: float
    """standard deviation within the window, mean of pitch, yaw and roll, in degrees"""
    head_speed: float
    """mean angular step in degrees per second"""
    gaze_spread: float
    """standard deviation of the gaze, mean of both directions, in canonical units"""
    gaze_away: float
    """share of time away from the middle"""


@dataclass(frozen=True)
class Joins:
    """Steps from frame to frame where windows join and elsewhere: 95th percentile, maximum."""

    joined: tuple[float, float]
    elsewhere: tuple[float, float]

    def __str__(self) -> str:
        (p95, largest), (other_p95, other_largest) = self.joined, self.elsewhere
        return f"{p95:.2f} and {largest:.2f} ({other_p95:.2f} and {other_largest:.2f})"


@dataclass(frozen=True)
class Liveliness:
    """Minutes of motion beside real clips."""

    minutes: float
    blinks_per_minute: float
    blink_interval_seconds: float
    blink_interval_variation: float
    """standard deviation of the intervals over their mean"""
    activity: Activity
    real: dict[str, Quartiles]
    """the same figures of real clips, by the names of :class:`Activity`"""
    head_joins: Joins
    """degrees"""
    mouth_joins: Joins
    """standard deviations of the mouth parameters"""
    drift: float
    """largest distance of a minute's mean pose from the mean, in standard deviations"""
    brow_energy: float
    """correlation of brow height with the loudness"""
    seed_spread_degrees: float
    """mean distance of the head's angles under another seed"""
    seed_lip_correlation: float
    """of the lip gaps under another seed"""

    def markdown(self) -> list[str]:
        """Lines of the report."""
        names = {
            "head_amplitude": "head amplitude, degrees",
            "head_speed": "head speed, degrees per second",
            "gaze_spread": "gaze spread",
            "gaze_away": "gaze away from the middle, share",
        }
        lines = [
            f"{self.minutes:.3g} min of motion: {self.blinks_per_minute:.1f} blinks a minute, "
            f"intervals of {self.blink_interval_seconds:.1f} s with a coefficient of variation of "
            f"{self.blink_interval_variation:.2f}. Drift {self.drift:.2f} standard deviations. "
            f"Brows follow loudness at r {self.brow_energy:.2f}. Another seed moves the head "
            f"{self.seed_spread_degrees:.2f} degrees away and keeps the lips at r "
            f"{self.seed_lip_correlation:.3f}.",
            "",
            "Steps where windows join (elsewhere), 95th percentile and maximum: head "
            f"{self.head_joins} degrees, mouth {self.mouth_joins} standard deviations.",
            "",
            "| median over windows of 5 s | sampled | quartiles of real clips | inside |",
            "|---|---|---|---|",
        ]
        for name, label in names.items():
            value, real = getattr(self.activity, name), self.real.get(name)
            inside = "" if real is None else ("yes" if real.holds(value) else "no")
            lines.append(f"| {label} | {value:.3g} | {real or ''} | {inside} |")
        return lines


def liveliness_report(
    checkpoint: Checkpoint, motion: Motion, samples: Floats, clips: Sequence[PreparedClip]
) -> Liveliness:
    """Figures of a long ``motion`` of speech (N,) sampled with seed 0, beside real clips."""
    start = hear(checkpoint, samples)[: int(OTHER_SEED_SECONDS * FRAMES_PER_SECOND)]
    other = sampled_motion(checkpoint, start, seed=1)
    model, blink = checkpoint.config.motion, motion.part("blink")[:, 0]
    intervals = np.diff(blink_onsets(blink)) / FRAMES_PER_SECOND
    mouth = motion.part("mouth") / checkpoint.space.std[motion.space.slice("mouth")]
    mouth_steps = np.linalg.norm(np.diff(mouth.astype(np.float64), axis=0), axis=1)
    angles, gap = head_angles(motion), lips_of_motion(motion)[0]
    energy = sound_spectra(samples).astype(np.float64).mean(1)
    apart = np.linalg.norm(angles[: len(other)] - head_angles(other), axis=1)
    return Liveliness(
        minutes=len(motion) / FRAMES_PER_SECOND / 60.0,
        blinks_per_minute=blinks_per_minute(blink),
        blink_interval_seconds=float(intervals.mean()) if len(intervals) else float("nan"),
        blink_interval_variation=variation(intervals),
        activity=measure_activity(motion),
        real=real_activity(clips, checkpoint.space),
        head_joins=measure_joins(pose_steps(motion), model.stride, model.overlap),
        mouth_joins=measure_joins(mouth_steps, model.stride, model.overlap),
        drift=drift(angles),
        brow_energy=lagged_correlation(energy, brow_heights(motion)).correlation,
        seed_spread_degrees=float(apart.mean()),
        seed_lip_correlation=float(np.corrcoef(gap[: len(other)], lips_of_motion(other)[0])[0, 1]),
    )


def measure_activity(motion: Motion) -> Activity:
    """Medians over the whole windows of 5 s; motion shorter than one is one window."""
    size = min(int(WINDOW_SECONDS * FRAMES_PER_SECOND), len(motion))
    starts = range(0, len(motion) - size + 1, size)
    angles, gaze = head_angles(motion), motion.part("gaze").astype(np.float64)
    steps = pose_steps(motion) * FRAMES_PER_SECOND
    windows = [slice(start, start + size) for start in starts]
    away = np.linalg.norm(gaze, axis=1) > GAZE_AWAY
    return Activity(
        head_amplitude=float(np.median([angles[part].std(0).mean() for part in windows])),
        head_speed=float(np.median([steps[part.start : part.stop - 1].mean() for part in windows])),
        gaze_spread=float(np.median([gaze[part].std(0).mean() for part in windows])),
        gaze_away=float(away.mean()),
    )


def real_activity(clips: Sequence[PreparedClip], space: MotionSpace) -> dict[str, Quartiles]:
    """Quartiles over the clips of 5 s and more, each tracked and smoothed as sampled motion is."""
    found = []
    for clip in clips:
        if clip.seconds >= WINDOW_SECONDS:
            motion, _ = motion_from_landmarks(clip.track, space)
            smooth = smooth_pose(motion.values, space.slice("pose"))
            found.append(measure_activity(Motion(smooth, space)))
    if not found:
        return {}
    return {
        name: Quartiles(
            *(float(q) for q in np.quantile([getattr(f, name) for f in found], [0.25, 0.5, 0.75]))
        )
        for name in Activity.__dataclass_fields__
    }


def measure_joins(steps: Array, stride: int, overlap: int) -> Joins:
    """Extremes of steps (T - 1,) of motion made of windows."""

    def extremes(values: Array) -> tuple[float, float]:
        if not len(values):
            return 0.0, 0.0
        return float(np.percentile(values, 95)), float(values.max())

    joined = joined_steps(len(steps), stride, overlap)
    return Joins(extremes(steps[joined]), extremes(steps[~joined]))


def variation(values: Array) -> float:
    """Coefficient of variation; NaN of fewer than two values."""
    return float(values.std() / values.mean()) if len(values) > 1 else float("nan")


def brow_heights(motion: Motion) -> Array:
    """(T,) how high the brows are, canonical units."""
    assert motion.space.basis is not None
    brows = motion.space.basis[motion.space.slice("brows")][:, list(BROW_POINTS), 1].mean(1)
    return -(motion.part("brows").astype(np.float64) @ brows)


def head_angles(motion: Motion) -> Array:
    """(T, 3) pitch, yaw and roll in degrees."""
    parts = [motion.part(name) for name in ("pitch", "yaw", "roll")]
    return np.concatenate(parts, axis=1).astype(np.float64)
