"""Talking videos to the neural space: LivePortrait's motion and HuBERT features.

The sound is heard as the published system hears it, see :mod:`moda.systems.published`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moda.encoders.neural.hubert import HubertEncoder, encode_speech_hubert, pre_emphasise
from moda.encoders.neural.motion_extractor import MotionExtractor
from moda.encoders.speech import SAMPLES_PER_FRAME
from moda.structures import Floats
from moda.weights.catalogue import HUBERT, LIVE_PORTRAIT, find_model
from moda.weights.official import load_hubert, load_live_portrait


def require_networks() -> None:
    """Raises CheckpointError with the command that gets them, where they are not here."""
    for name in (LIVE_PORTRAIT, HUBERT):
        find_model(name)


class NeuralEncoders:
    """The networks that a clip of the neural space is made with."""

    def __init__(self, extractor: MotionExtractor, hubert: HubertEncoder) -> None:
        self.extractor, self.hubert = extractor, hubert

    @classmethod
    def load(cls, device: str) -> NeuralEncoders:
        """The published ones.

        Raises:
            CheckpointError: They have not been downloaded, or are damaged.
            MissingExtraError: transformers is not installed.
        """
        extractor = load_live_portrait(find_model(LIVE_PORTRAIT), device).extractor
        return cls(extractor, HubertEncoder(load_hubert(find_model(HUBERT), device)))

    def hear(self, sound: Floats, num_frames: int) -> NDArray[np.float16]:
        """Features (num_frames, F) of sound (N,); silence is heard after it ends.

        No sound at all has no features, (0, F).
        """
        if not len(sound):
            return np.zeros((0, self.hubert.feature_size), np.float16)
        length = num_frames * SAMPLES_PER_FRAME
        fitted = np.pad(sound[:length], (0, max(0, length - len(sound))))
        stretches = encode_speech_hubert(pre_emphasise([fitted]), self.hubert)
        return np.concatenate([speech.features.astype(np.float16) for speech in stretches])
