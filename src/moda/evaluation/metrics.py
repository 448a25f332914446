"""Metrics as pure functions on arrays. T frames at 25 fps unless said otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from moda.data.sync import correlation_at_lag
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.errors import InputError
from moda.motion.hearing.listening import true_runs
from moda.structures import FRAMES_PER_SECOND, Floats, Motion
from moda.structures.landmarks import Array

MIN_FEATURES = 2
"""Of which there is a covariance."""
MAX_LAG = 6  # frames
CERTAINTY, BOOTSTRAP_DRAWS = 0.9, 10_000
SILENCE_SECONDS, SILENCE_BELOW_PEAK_DB = 0.5, 40.0
CLOSED_MOTION_GAP = 0.012
"""Lips nearer than this, in units of the outer-eye distance, look closed."""


class LaggedCorrelation(NamedTuple):
    """Pearson correlation at the best lag."""

    correlation: float
    lag: int
    """second[t + lag] goes with first[t]"""


def lagged_correlation(first: Array, second: Array) -> LaggedCorrelation:
    """Best Pearson correlation of two curves (T,) over lags of up to 6 frames."""
    lags = sorted(range(-MAX_LAG, MAX_LAG + 1), key=abs)
    found = [LaggedCorrelation(correlation_at_lag(first, second, lag), lag) for lag in lags]
    return max(found, key=lambda at_lag: at_lag.correlation)


@dataclass(frozen=True)
class Interval:
    """A mean difference and where it lies with the given certainty."""

    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def paired_bootstrap(differences: Array, weights: Array) -> Interval:
    """90 % interval of the weighted mean of paired differences (N,), by drawing pairs anew.

    Source: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    differences, weights = np.asarray(differences, float), np.asarray(weights, float)
    count = len(differences)
    chosen = np.random.default_rng(0).integers(count, size=(BOOTSTRAP_DRAWS, count))
    means = (differences * weights)[chosen].sum(1) / weights[chosen].sum(1)
    low, high = np.quantile(means, [0.5 * (1.0 - CERTAINTY), 0.5 * (1.0 + CERTAINTY)])
    return Interval(weighted_mean(differences, weights), float(low), float(high))


def weighted_mean(values: Array, weights: Array) -> float:
    """Mean of the values with weights, such as the clips' lengths."""
    return float((np.asarray(values) * weights).sum() / np.sum(weights))


def silence_runs(samples: Floats) -> NDArray[np.bool_]:
    """(T,) frames of a recording (N,) at 16 kHz inside silences of 0.5 s or more.

    Silent is what is 40 dB under the loud parts (the 95th percentile of the power of
    10 ms pieces). Independent of the speech encoder's own idea of activity.
    """
    hop = SAMPLE_RATE_HZ // 100
    pieces = samples[: len(samples) // hop * hop].reshape(-1, hop).astype(np.float64)
    power = 10.0 * np.log10((pieces**2).mean(1) + 1e-12)
    quiet = np.asarray(power < np.percentile(power, 95) - SILENCE_BELOW_PEAK_DB, np.bool_)
    long_enough: NDArray[np.bool_] = np.zeros(len(quiet), np.bool_)
    for start, stop in true_runs(quiet):
        if stop - start >= SILENCE_SECONDS * 100:
            long_enough[start:stop] = True
    per_frame = round(100 / FRAMES_PER_SECOND)
    num_frames = -(-len(samples) // (hop * per_frame))
    padded = np.pad(long_enough, (0, max(0, num_frames * per_frame - len(long_enough))))
    by_frame = padded[: num_frames * per_frame].reshape(-1, per_frame)
    return np.asarray(by_frame.min(1), np.bool_)


def closed_share(
    gaps: Array, where: NDArray[np.bool_], closed_gap: float = CLOSED_MOTION_GAP
) -> float:
    """Share of the chosen frames with closed lips; NaN where none is chosen."""
    count = min(len(gaps), len(where))
    chosen = gaps[:count][where[:count]]
    return float((chosen < closed_gap).mean()) if len(chosen) else float("nan")


def blink_onsets(blink: NDArray[np.floating]) -> NDArray[np.int64]:
    """Frames at which the lid closes beyond 0.6 of the way; ``blink`` (T,) is 0 open, 1 closed."""
    shut = np.concatenate([[False], blink > 0.6])
    return np.flatnonzero(shut[1:] & ~shut[:-1])


def blinks_per_minute(blink: NDArray[np.floating]) -> float:
    """Closings of the lid, see :func:`blink_onsets`, per minute."""
    return len(blink_onsets(blink)) / (len(blink) / FRAMES_PER_SECOND / 60.0)


def pose_steps(motion: Motion) -> Array:
    """(T - 1,) change of the head's angles from frame to frame in degrees."""
    angles = np.concatenate([motion.part(name) for name in ("pitch", "yaw", "roll")], axis=1)
    return np.linalg.norm(np.diff(angles.astype(np.float64), axis=0), axis=1)


def joined_steps(num_steps: int, stride: int, overlap: int) -> NDArray[np.bool_]:
    """(T - 1,) whether a step from frame to frame lies where windows are joined.

    Windows begin every ``stride`` frames and share ``overlap`` frames with the one before.
    """
    position = np.arange(num_steps) + 1
    return (position >= stride) & (position % stride < overlap)


def drift(values: Array, *, seconds: float = 60.0) -> float:
    """Largest distance of the mean of a piece of ``seconds`` from the mean of all, in units of the
    spread of all, over the columns of (T, n); 0 of fewer than two pieces."""
    size = min(int(seconds * FRAMES_PER_SECOND), len(values))
    pieces = [values[start : start + size] for start in range(0, len(values) - size + 1, size)]
    means = np.array([piece.mean(0) for piece in pieces])
    return float((np.abs(means - values.mean(0)) / (values.std(0) + 1e-9)).max())


def psnr(
    first: NDArray[np.generic], second: NDArray[np.generic], where: NDArray[np.bool_]
) -> float:
    """Peak signal-to-noise ratio in dB of two pictures (H, W, 3) where the mask (H, W) is true."""
    difference = first[where].astype(np.float64) - second[where].astype(np.float64)
    error = float((difference**2).mean())
    return float(10.0 * np.log10(255.0**2 / max(error, 1e-12)))


@dataclass
class RunningGaussian:
    """Mean and covariance of features that come in batches, without keeping them.

    Source of the update: T. Chan, G. Golub and R. LeVeque, "Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances", 1979.
    """

    count: int = 0
    mean: Array = field(default_factory=lambda: np.zeros(0))
    scatter: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """(n, n) sum of the outer products of what differs from the mean"""

    @classmethod
    def of(cls, features: Array) -> RunningGaussian:
        """That of all features (N, n) at once."""
        gaussian = cls()
        gaussian.add(features)
        return gaussian

    def add(self, features: Array) -> None:
        """Take a batch (N, n)."""
        batch = np.asarray(features, np.float64)
        if not len(batch):
            return
        mean = batch.mean(0)
        scatter = (batch - mean).T @ (batch - mean)
        if self.count == 0:
            self.count, self.mean, self.scatter = len(batch), mean, scatter
            return
        total, apart = self.count + len(batch), mean - self.mean
        self.scatter = (
            self.scatter + scatter + np.outer(apart, apart) * self.count * len(batch) / total
        )
        self.mean = self.mean + apart * len(batch) / total
        self.count = total

    @property
    def covariance(self) -> Array:
        """(n, n) unbiased. Raises :class:`InputError` of fewer than two features."""
        if self.count < MIN_FEATURES:
            raise InputError(
                f"{self.count} samples have no covariance; give at least {MIN_FEATURES}"
            )
        return self.scatter / (self.count - 1)


def frechet_distance(first: RunningGaussian, second: RunningGaussian) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians:

    ``|m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))``.

    The trace of the root is the sum of the roots of the eigenvalues of ``C1^(1/2) C2 C1^(1/2)``,
    which is symmetric, so nothing becomes complex and singular covariances need no patching.

    Source: D. Dowson and B. Landau, "The Fréchet Distance between Multivariate Normal
    Distributions", 1982; M. Heusel et al., NeurIPS 2017, equation 6.
    """
    one, two = first.covariance, second.covariance
    values, vectors = eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    inner = eigh(root @ two @ root, eigvals_only=True)
    trace = np.trace(one) + np.trace(two) - 2.0 * np.sqrt(np.maximum(inner, 0.0)).sum()
    return float(((first.mean - second.mean) ** 2).sum() + max(trace, 0.0))
