"""How far picture and sound of each clip are apart, and the linear map that finds out.

Clips from the wild have their sound up to 8 frames early or late. A linear map from sound to lips,
fitted on other speakers, is good enough to see it: the lag at which a clip agrees best with the map
is its offset. Correcting it is worth more than any other step of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moda.encoders.speech import HOPS_PER_FRAME, NUM_BANDS
from moda.structures import Floats
from moda.structures.landmarks import Array

CONTEXT_FRAMES = 8
MAX_LAG, ROUNDS, FOLDS = 8, 4, 5
RIDGE = 3000.0
LAG_PENALTY = 0.012
"""Correlation that a frame of lag must be worth; more in clips below 12 s."""


@dataclass(frozen=True)
class SyncClip:
    """What the estimate needs of one clip."""

    name: str
    speaker: str
    features: Floats | Array
    """(T, F) what the map sees of the sound around each frame"""
    lips: Array
    """(T, 2) lip gap and lip width as tracked"""
    lag: int = 0
    """Where the search begins."""


def estimate_lags(
    clips: Sequence[SyncClip],
    *,
    ridge: float = RIDGE,
) -> dict[str, int]:
    """Lag in frames of each clip: lips at ``t + lag`` go with the sound at ``t``.

    Alternates between fitting the map on the clips of other speakers at their present lags and
    choosing the lags. Where all clips are of one speaker, the map is fitted on the other clips, and
    a clip by itself keeps its lag. The common zero is left open: see :func:`anchored`.
    """
    if len(clips) == 1:
        return {clip.name: clip.lag for clip in clips}
    if len({clip.speaker for clip in clips}) == 1:
        clips = [replace(clip, speaker=clip.name) for clip in clips]
    inputs = {clip.name: clip.features.astype(np.float64) for clip in clips}
    speakers = sorted({clip.speaker for clip in clips}, key=str.lower)
    groups = [set(speakers[start::FOLDS]) for start in range(min(FOLDS, len(speakers)))]
    lags = {clip.name: clip.lag for clip in clips}
    for _ in range(ROUNDS):
        chosen: dict[str, int] = {}
        for group in groups:
            others = [clip for clip in clips if clip.speaker not in group]
            predict = LinearMap(
                [inputs[clip.name] for clip in others],
                [shift_frames(clip.lips, lags[clip.name]) for clip in others],
                ridge=ridge,
            )
            for clip in clips:
                if clip.speaker in group:
                    predicted = predict(inputs[clip.name])
                    chosen[clip.name] = best_lag(predicted, clip.lips)
        lags = chosen
    return lags


def anchored(lags: Mapping[str, int], in_sync: Sequence[str]) -> dict[str, float]:
    """Lags with their common zero moved so that the clips ``in_sync`` have none on average.

    An outlier of a short clip does not move it: the mean of the middle half counts. It is rounded
    to whole frames, for motion between frames would be smoother than it was.
    """
    known = np.sort([lags[name] for name in in_sync if name in lags])
    quarter = len(known) // 4
    zero = float(np.round(known[quarter : len(known) - quarter].mean())) if len(known) else 0.0
    return {name: lag - zero for name, lag in lags.items()}


def best_lag(predicted: Array, lips: Array) -> int:
    """Lag that maximises the mean correlation of gap and width less a penalty on its size."""
    weight = LAG_PENALTY * min(3.0, 300.0 / len(lips))
    scores = [
        np.mean([correlation_at_lag(predicted[:, k], lips[:, k], lag) for k in range(2)])
        - weight * abs(lag)
        for lag in range(-MAX_LAG, MAX_LAG + 1)
    ]
    return int(np.argmax(scores)) - MAX_LAG


def correlation_at_lag(first: Array, second: Array, lag: int) -> float:
    """Pearson correlation of ``first[t]`` with ``second[t + lag]``; 0 where one is constant."""
    count = min(len(first), len(second))
    if count - abs(lag) < 3:
        return 0.0
    a = first[max(0, -lag) : count - max(0, lag)]
    b = second[max(0, lag) : count - max(0, -lag)]
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 1e-12 else 0.0


class LinearMap:
    """Ridge regression from stacked features to z-scored lips of several clips."""

    def __init__(
        self, inputs: Sequence[Array], lips: Sequence[Array], *, ridge: float = RIDGE
    ) -> None:
        stacked = np.concatenate(inputs)
        targets = np.concatenate([(y - y.mean(0)) / (y.std(0) + 1e-6) for y in lips])
        self._mean = stacked.mean(0)
        centred = stacked - self._mean
        normal = centred.T @ centred + ridge * np.eye(centred.shape[1])
        self._weights = np.linalg.solve(normal, centred.T @ targets)

    def __call__(self, inputs: Array) -> Array:
        return (inputs - self._mean) @ self._weights


def stack_context(features: Floats) -> NDArray[np.float64]:
    """Mean spectra of the frames around each frame, (T, 160) -> (T, (2 CONTEXT_FRAMES + 1) 40)."""
    spectra = features.reshape(len(features), HOPS_PER_FRAME, NUM_BANDS).mean(1).astype(np.float64)
    padded = np.pad(spectra, ((CONTEXT_FRAMES, CONTEXT_FRAMES), (0, 0)), mode="edge")
    return np.concatenate(
        [padded[start : start + len(features)] for start in range(2 * CONTEXT_FRAMES + 1)], axis=1
    )


def shift_frames(values: Array, lag: float) -> Array:
    """Row t becomes row ``t + lag``, linearly interpolated, held at the ends."""
    return rows_at(values, np.arange(len(values)) + lag)


def rows_at(values: NDArray[np.floating], times: NDArray[np.floating]) -> Array:
    """Rows of ``values`` (T, n) at fractional times in frames, held at the ends."""
    position = np.clip(times, 0, len(values) - 1)
    below = np.minimum(position.astype(int), max(len(values) - 2, 0))
    share = (position - below)[:, None]
    above = np.minimum(below + 1, len(values) - 1)
    return values[below] * (1.0 - share) + values[above] * share
