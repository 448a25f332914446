"""How good is motion that a model makes by itself, without the rules of the product around it?

For comparing networks and ways of sampling: everything is measured on the clips of held-out
speakers, in the motion space, on what :func:`moda.motion.sampler.sample_motion` gives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from moda.data.dataset import NONE_EMOTION, TrainingClip
from moda.evaluation.metrics import (
    RunningGaussian,
    frechet_distance,
    joined_steps,
    lagged_correlation,
    pose_steps,
    weighted_mean,
)
from moda.evaluation.model.liveliness import head_angles
from moda.motion.hearing.lips import lips_of_motion
from moda.motion.sampler import sample_motion, sampling_options, smooth_pose
from moda.motion.variants.autoencoder import MotionAutoencoder
from moda.structures import (
    EMOTIONS,
    FRAMES_PER_SECOND,
    EmotionAt,
    Floats,
    Motion,
    MotionSpace,
    Speech,
    Style,
)
from moda.structures.landmarks import Array
from moda.weights.checkpoints import Checkpoint

FEATURE_FRAMES, FEATURE_STRIDE = 25, 12
"""Pieces of motion whose distribution is compared."""
NUM_FEATURES = 12
SMALLEST_DEVIATION = 1e-3
"""Of a component of the pieces, which are in standard deviations of the motion."""
LONG_SECONDS = 40.0


class FeatureSpace(NamedTuple):
    """Where pieces of motion are compared: whitened principal components of real training ones.

    Of each piece of a second: mean, spread and mean speed of every number of normalised motion.
    """

    mean: Array  # (3 D,)
    directions: Array  # (3 D, NUM_FEATURES)

    def features(self, motions: Sequence[Motion]) -> Array:
        """(N, NUM_FEATURES) of all pieces of some motions."""
        return (
            np.concatenate([piece_statistics(m) for m in motions]) - self.mean
        ) @ self.directions


def fit_feature_space(motions: Sequence[Motion]) -> FeatureSpace:
    """The space of the pieces of real motions."""
    rows = np.concatenate([piece_statistics(motion) for motion in motions])
    mean = rows.mean(0)
    _, spread, axes = np.linalg.svd(rows - mean, full_matrices=False)
    deviations = np.maximum(spread[:NUM_FEATURES] / np.sqrt(len(rows)), SMALLEST_DEVIATION)
    return FeatureSpace(mean, axes[:NUM_FEATURES].T / deviations)


def piece_statistics(motion: Motion) -> Array:
    """(N, 3 D) mean, spread and mean speed of each piece; motion below a second gives none."""
    values = motion.space.normalize(motion.values).astype(np.float64)
    starts = range(0, len(values) - FEATURE_FRAMES + 1, FEATURE_STRIDE)
    pieces = [values[start : start + FEATURE_FRAMES] for start in starts]
    rows = [
        np.concatenate([p.mean(0), p.std(0), np.abs(np.diff(p, axis=0)).mean(0)]) for p in pieces
    ]
    return np.reshape(rows, (len(rows), 3 * values.shape[1]))


@dataclass(frozen=True)
class GeneratedMotion:
    """Figures of one model and one way of sampling. Ratios are to the real motion, 1 is right."""

    lip_gap: float
    """correlation with the tracked lips at each clip's best lag, weighted by length"""
    lip_width: float
    gap_amplitude: float
    width_amplitude: float
    head_amplitude: float
    """standard deviation of the angles within a clip, ratio"""
    head_diversity: float
    """mean distance of the head's angles under another seed, degrees"""
    mouth_jitter: float
    """root mean square of the second difference, ratio"""
    head_jitter: float
    join_step: float
    """mean step of the head where windows join over that elsewhere"""
    frechet: float
    """distance of the distributions of one-second pieces"""
    cpu_seconds_per_second: float
    """processor time of sampling for a second of motion"""


def real_motion(clip: TrainingClip, space: MotionSpace) -> Motion:
    """The motion of a clip, with the pose smoothed as sampled motion is."""
    values = space.denormalize(clip.motion[0][: len(clip)])
    return Motion(smooth_pose(values, space.slice("pose")), space)


def generate(
    checkpoint: Checkpoint, features: Floats, identity: Floats, emotion: int, seed: int
) -> Motion:
    """Motion for speech features (T, F), as the checkpoint samples it."""
    style = Style()
    if emotion != NONE_EMOTION:
        style = Style((EmotionAt(0.0, EMOTIONS[emotion]),))
    space = checkpoint.space
    stretches = sample_motion(
        checkpoint.model,
        space,
        [Speech(features, np.ones(len(features), np.float32))],
        identity=identity,
        style=style,
        generator=seed,
        **sampling_options(space, checkpoint.config.sampler),
    )
    return Motion(np.concatenate([part.values for part in stretches]), space)


def measure_generated(
    checkpoint: Checkpoint,
    clips: Sequence[TrainingClip],
    features: FeatureSpace,
    *,
    seed: int = 0,
    swap_sounds: bool = False,
) -> GeneratedMotion:
    """All figures of a model on the clips of held-out speakers, each told whose it is.

    ``swap_sounds`` gives each clip the sound of the next one: what remains is what any speech gets.
    """
    speaking = [clip for clip in clips if clip.features]
    others = speaking[1:] + speaking[:1] if swap_sounds else speaking
    real, first, second = list[Motion](), list[Motion](), list[Motion]()
    for clip, other in zip(speaking, others, strict=True):
        count = min(len(clip), len(other))
        sound = other.features[0][:count]
        told = clip.identity[0], clip.emotion
        first.append(generate(checkpoint, sound, *told, seed))
        second.append(generate(checkpoint, sound, *told, seed + 1000))
        real.append(real_motion(clip, checkpoint.space))
    weights = np.array([len(motion) for motion in first], float)

    def mean(values: Sequence[float]) -> float:
        return weighted_mean(np.array(values), weights)

    def ratio(figure: Callable[[Motion], float]) -> float:
        truth = mean([figure(motion) for motion in real])
        return mean([figure(motion) for motion in first]) / truth if truth else float("nan")

    lips = [_lip_correlations(m, clip.lips) for m, clip in zip(first, speaking, strict=True)]
    apart = [
        np.linalg.norm(head_angles(one) - head_angles(other), axis=1).mean()
        for one, other in zip(first, second, strict=True)
    ]
    join_step, cpu_seconds = _long_sample(checkpoint, speaking, seed)
    return GeneratedMotion(
        lip_gap=mean([gap for gap, _ in lips]),
        lip_width=mean([width for _, width in lips]),
        gap_amplitude=ratio(lambda motion: float(lips_of_motion(motion)[0].std())),
        width_amplitude=ratio(lambda motion: float(lips_of_motion(motion)[1].std())),
        head_amplitude=ratio(_head_spread),
        head_diversity=mean(apart),
        mouth_jitter=ratio(lambda motion: _jitter(motion, "mouth")),
        head_jitter=ratio(lambda motion: _jitter(motion, "pose")),
        join_step=join_step,
        frechet=frechet_distance(
            RunningGaussian.of(features.features(first + second)),
            RunningGaussian.of(features.features(real)),
        ),
        cpu_seconds_per_second=cpu_seconds,
    )


def _lip_correlations(motion: Motion, lips: Array) -> tuple[float, float]:
    """Of lip gap and lip width with those that were tracked (T, 2)."""
    both = zip(lips_of_motion(motion), lips[: len(motion)].T, strict=True)
    gap, width = (lagged_correlation(own, real).correlation for own, real in both)
    return gap, width


def _head_spread(motion: Motion) -> float:
    return float(head_angles(motion).std(0).mean())


def jitter(values: NDArray[np.floating]) -> float:
    """Root mean square of the second difference over time of (T, n), per frame squared."""
    return float(np.sqrt((np.diff(values.astype(np.float64), n=2, axis=0) ** 2).mean()))


def _jitter(motion: Motion, part: str) -> float:
    return jitter(motion.space.normalize(motion.values)[:, motion.space.slice(part)])


def _long_sample(
    checkpoint: Checkpoint, clips: Sequence[TrainingClip], seed: int
) -> tuple[float, float]:
    """Of all sounds in a row: steps of the head at joins over others; processor time a second."""
    sound = np.concatenate([clip.features[0][: len(clip)] for clip in clips])
    sound = sound[: int(LONG_SECONDS * FRAMES_PER_SECOND)]
    started = time.process_time()
    motion = generate(checkpoint, sound, clips[0].identity[0], NONE_EMOTION, seed)
    took = time.process_time() - started
    model, steps = checkpoint.config.motion, pose_steps(motion)
    joined = joined_steps(len(steps), model.stride, model.overlap)
    ratio = steps[joined].mean() / steps[~joined].mean() if joined.any() else float("nan")
    return float(ratio), took / (len(motion) / FRAMES_PER_SECOND)


@torch.inference_mode()
def measure_reconstruction(
    autoencoder: MotionAutoencoder, clips: Sequence[TrainingClip], space: MotionSpace
) -> Mapping[str, float]:
    """What is left of real motion after the autoencoder: correlation of the lips, length-weighted,
    and for mouth and pose the share of the variance that comes through."""
    found: dict[str, list[float]] = {"lip_gap": [], "lip_width": [], "mouth": [], "pose": []}
    for clip in clips:
        motion = clip.motion[0]
        decoded = autoencoder.decode(autoencoder.encode(torch.from_numpy(motion)[None]))[0].numpy()
        lips = [lips_of_motion(Motion(space.denormalize(m), space)) for m in (motion, decoded)]
        for name, one, other in zip(("lip_gap", "lip_width"), *lips, strict=True):
            found[name].append(float(np.corrcoef(one, other)[0, 1]))
        for name in ("mouth", "pose"):
            part = space.slice(name)
            error = ((motion - decoded)[:, part] ** 2).mean()
            found[name].append(float(1.0 - error / motion[:, part].var()))
    weights = np.array([len(clip.motion[0]) for clip in clips], float)
    return {name: weighted_mean(np.array(values), weights) for name, values in found.items()}
