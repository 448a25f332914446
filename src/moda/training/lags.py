"""Offsets of sound and picture, refined by what the pretrained embedder hears of the sound.

A map from phones to lips sees an offset of one frame that a map from spectra misses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from moda.data.dataset import TrainingClip, with_lags
from moda.data.sync import SyncClip, estimate_lags
from moda.motion.layers import SpeechConv
from moda.motion.listening import with_context
from moda.structures import Floats

RIDGE = 3e4
PHONE_WEIGHT = 3.0
"""Of the phones' shares beside the activations they are read from."""


def refine_lags(
    clips: Sequence[TrainingClip], embedder: SpeechConv, in_sync: str
) -> list[TrainingClip]:
    """The clips with lags estimated from the embedder's activations, starting from their own."""
    speaking = [clip for clip in clips if clip.features]
    lags = estimate_lags(
        [
            SyncClip(
                clip.name,
                clip.speaker,
                activations(embedder, clip.features[0])[: len(clip)],
                clip.lips[: len(clip)],
                round(clip.lag),
            )
            for clip in speaking
        ],
        ridge=RIDGE,
    )
    return with_lags(clips, lags, in_sync)


@torch.inference_mode()
def activations(embedder: SpeechConv, features: Floats) -> Floats:
    """(T, 160) -> (T, 6 (width + phones)): a frame, the one before and the one after."""
    was_training = embedder.training
    embedder.eval()
    sound = embedder.inner_hidden(with_context(features, embedder.config))
    shares = torch.softmax(embedder.phone_head(sound), dim=1)
    halves = torch.cat((sound, PHONE_WEIGHT * shares), dim=1)[0].T.numpy()
    embedder.train(was_training)
    frames = np.pad(halves.reshape(len(features), -1), ((1, 1), (0, 0)), mode="edge")
    return np.concatenate([frames[k : k + len(features)] for k in range(3)], axis=1)
