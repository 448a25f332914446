"""Do the lips follow the speech? Sampled motion of held-out speakers against the tracked lips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moda.checkpoints import Checkpoint
from moda.data.clips import PreparedClip
from moda.data.sync import LinearMap, shift_frames, stack_context
from moda.encoders.speech import encode_speech
from moda.evaluation.metrics import (
    closed_share,
    lagged_correlation,
    silence_runs,
    weighted_mean,
)
from moda.landmarks import MOUTH_CORNERS, Array, identity_vector, lip_gap, lip_gaps, lip_width
from moda.motion.controls import shape_motion
from moda.motion.sampler import sample_motion, sampling_options
from moda.structures import Floats, Motion, MotionSpace, Speech


@dataclass(frozen=True)
class LipScore:
    """Length-weighted means over clips; correlations at the best lag within 6 frames."""

    method: str
    gap: float
    width: float
    gap_spread: float
    """standard deviation of the lip gap over that of the real one, 1 is right"""
    width_spread: float
    per_clip: dict[str, float]
    """gap correlation of each clip"""

    has_units: bool = True
    """whether the method gives lips in the units of a face, so that its spread means something"""

    def row(self) -> str:
        """A line of a Markdown table."""
        spreads = f"{self.gap_spread:.2f} | {self.width_spread:.2f}" if self.has_units else " | "
        return f"| {self.method} | {self.gap:.3f} | {self.width:.3f} | {spreads} |"


@dataclass(frozen=True)
class HeldOutClip:
    """A prepared clip with its features, and its lips as tracked."""

    name: str
    speech: Speech
    samples: Floats
    gap: Array
    width: Array

    @property
    def num_frames(self) -> int:
        return min(len(self.speech), len(self.gap))


def held_out_clips(clips: Sequence[PreparedClip], speakers: Sequence[str]) -> list[HeldOutClip]:
    """The clips with speech of some speakers."""
    chosen = []
    for clip in clips:
        if clip.speaker in speakers and clip.has_speech:
            landmarks = clip.track.landmarks.astype(np.float64)
            gap, width = lip_gap(landmarks), lip_width(landmarks)
            speech = whole_speech(clip.sound)
            chosen.append(HeldOutClip(clip.name, speech, clip.sound, gap, width))
    return chosen


def whole_speech(samples: Floats) -> Speech:
    """Features of a whole recording at once."""
    parts = list(encode_speech([samples]))
    return Speech(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.activity for part in parts]),
    )


def sampled_lips(
    checkpoint: Checkpoint, speech: Speech, *, seed: int, identity: Floats, shaped: bool = True
) -> tuple[Array, Array, Motion]:
    """Lip gap and width (T,) in canonical units, and the motion, sampled as the product does.

    With ``shaped`` lips rest in silence, as in a video.
    """
    stretches = list(
        sample_motion(
            checkpoint.model,
            checkpoint.space,
            [speech],
            identity=identity,
            generator=seed,
            **sampling_options(checkpoint.space, checkpoint.config.sampler),
        )
    )
    if shaped:
        start, pairs = 0, []
        for stretch in stretches:
            part = slice(start, start + len(stretch))
            pairs.append((stretch, Speech(speech.features[part], speech.activity[part])))
            start = part.stop
        stretches = list(shape_motion(pairs, seed=seed))
    motion = Motion(np.concatenate([part.values for part in stretches]), checkpoint.space)
    return *lips_of_motion(motion), motion


def lips_of_motion(motion: Motion) -> tuple[Array, Array]:
    """Middle lip gap, not below 0, and change of the lip width, both (T,) in canonical units."""
    space = motion.space
    assert space.basis is not None
    mouth = space.slice("mouth")
    basis = space.basis[mouth].astype(np.float64)
    right, left = MOUTH_CORNERS
    values = motion.part("mouth").astype(np.float64)
    gaps = values @ lip_gaps(basis)[:, 4]
    widths = values @ (basis[:, left, 0] - basis[:, right, 0])
    return np.maximum(gaps, 0.0), widths


Predictor = Callable[[HeldOutClip], tuple[Array, Array]]


def score(method: str, clips: Sequence[HeldOutClip], predict: Predictor) -> LipScore:
    """Compare a method's lips with the tracked ones, clip by clip at the clip's own offset."""
    rows, lengths = [], []
    for clip in clips:
        gap, width = predict(clip)
        count = min(clip.num_frames, len(gap))
        gap, width = gap[:count], width[:count]
        rows.append(
            (
                lagged_correlation(gap, clip.gap[:count]).correlation,
                lagged_correlation(width, clip.width[:count]).correlation,
                gap.std() / clip.gap[:count].std(),
                width.std() / clip.width[:count].std(),
            )
        )
        lengths.append(count)
    table, weights = np.array(rows), np.array(lengths, float)
    means = [weighted_mean(column, weights) for column in table.T]
    names = {clip.name: round(float(row[0]), 3) for clip, row in zip(clips, rows, strict=True)}
    return LipScore(method, means[0], means[1], means[2], means[3], names)


def baselines(
    clips: Sequence[HeldOutClip],
    training: Sequence[tuple[Floats, Array, float]],
) -> list[LipScore]:
    """Loudness, and a linear map from the sound fitted on training clips.

    ``training`` holds features (T, 160), lips (T, 2) and lag of each training clip.
    """

    def loudness(clip: HeldOutClip) -> tuple[Array, Array]:
        level = clip.speech.features.astype(np.float64).mean(1)
        return level, level

    linear = LinearMap(
        [stack_context(features[: len(lips)]) for features, lips, _ in training],
        [shift_frames(lips[: len(features)], lag) for features, lips, lag in training],
    )

    def mapped(clip: HeldOutClip) -> tuple[Array, Array]:
        predicted = linear(stack_context(clip.speech.features))
        return predicted[:, 0], predicted[:, 1]

    rows = [score("loudness", clips, loudness), score("linear map", clips, mapped)]
    return [replace(row, has_units=False) for row in rows]


def silence_report(
    checkpoint: Checkpoint, recordings: Sequence[Floats], identity: Floats
) -> tuple[float, int]:
    """Share of frames with closed lips in silences of 0.5 s and more, and their number.

    The first 0.2 s of a silence, in which the last sound ends, and the last 0.16 s, in which the
    lips prepare the next, do not count.
    """
    gaps: list[Array] = []
    silent: list[NDArray[np.bool_]] = []
    for samples in recordings:
        gap, _, _ = sampled_lips(checkpoint, whole_speech(samples), seed=0, identity=identity)
        inside = trim_runs(silence_runs(samples)[: len(gap)], head=5, tail=4)
        gaps.append(gap[: len(inside)])
        silent.append(inside)
    where = np.concatenate(silent)
    return closed_share(np.concatenate(gaps), where), int(where.sum())


def trim_runs(where: NDArray[np.bool_], *, head: int, tail: int) -> NDArray[np.bool_]:
    """Take frames off the beginning and the end of every run of true values."""
    trimmed = np.zeros_like(where)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]]).astype(int)))
    for start, stop in edges.reshape(-1, 2):
        begin = start if start == 0 else start + head
        end = stop if stop == len(where) else stop - tail
        trimmed[begin : max(begin, end)] = True
    return trimmed


def mean_identity(space: MotionSpace) -> Floats:
    """(63,) of the mean face: an unknown speaker."""
    assert space.canonical_face is not None
    return identity_vector(space.canonical_face.astype(np.float64))
