"""Offsets of sound and picture, refined by what the pretrained speech encoder hears.

A map from its tokens to lips sees an offset of one frame that a map from spectra misses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moda.config import NUM_PROSODY
from moda.data.dataset import TrainingClip, with_lags
from moda.data.sync import SyncClip, estimate_lags
from moda.structures import Floats

RIDGE = 16_000.0


def refine_lags(clips: Sequence[TrainingClip], in_sync: str) -> list[TrainingClip]:
    """The clips with lags estimated from tokens of the encoder, starting from their own."""
    speaking = [clip for clip in clips if clip.features]
    stacked = {clip.name: stacked_tokens(clip.features[0])[: len(clip)] for clip in speaking}
    whole = np.concatenate(list(stacked.values()))
    mean, spread = whole.mean(0), whole.std(0) + 1e-6
    lags = estimate_lags(
        [
            SyncClip(
                clip.name,
                clip.speaker,
                (stacked[clip.name] - mean) / spread,
                clip.lips[: len(clip)],
                round(clip.lag),
            )
            for clip in speaking
        ],
        ridge=RIDGE,
    )
    return with_lags(clips, lags, in_sync)


def stacked_tokens(features: Floats) -> Floats:
    """(T, F) -> (T, 3 C): mean tokens of a frame, the one before and the one after."""
    frames = features[:, :-NUM_PROSODY].astype(np.float32).reshape(len(features), 2, -1).mean(1)
    padded = np.pad(frames, ((1, 1), (0, 0)), mode="edge")
    return np.concatenate([padded[k : k + len(frames)] for k in range(3)], axis=1)
