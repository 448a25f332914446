"""What an emotion adds to the face, frame by frame."""

from __future__ import annotations

import numpy as np

from moda.motion.model import MotionTransformer
from moda.structures import EMOTIONS, FRAMES_PER_SECOND, Floats, MotionSpace, Style

CHANGE_SECONDS = 0.6
"""How long a face takes from one emotion to the next."""


class EmotionOffsets:
    """Raw motion (D,) to be added to consecutive frames, following a schedule smoothly."""

    def __init__(self, model: MotionTransformer, space: MotionSpace, style: Style) -> None:
        self._style = style
        size = (len(EMOTIONS) + 1, space.size)
        self._table = np.zeros(size, np.float32)
        if model.config.mouth_size:
            normalised = model.emotion_mean.detach().cpu().numpy()
            self._table = normalised * space.scale
        self._frame = 0
        self._amounts = self._wanted()

    def next(self) -> Floats:
        """The offset of the next frame."""
        step = 1.0 / (CHANGE_SECONDS * FRAMES_PER_SECOND)
        self._amounts += np.clip(self._wanted() - self._amounts, -step, step)
        self._frame += 1
        smooth = self._amounts**2 * (3.0 - 2.0 * self._amounts)
        offset: Floats = (smooth @ self._table[:-1]).astype(np.float32)
        return offset

    def follow(self, style: Style) -> None:
        """From the next frame on another schedule; its times still count from the first frame."""
        self._style = style

    def _wanted(self) -> np.ndarray:
        """(8,) amounts in 0..1 in force at the frame, before smoothing."""
        entry = self._style.at((self._frame + 0.5) / FRAMES_PER_SECOND)
        amounts = np.zeros(len(EMOTIONS))
        if entry.emotion is not None:
            amounts[EMOTIONS.index(entry.emotion)] = _inverse_smoothstep(entry.intensity)
        return amounts


def _inverse_smoothstep(share: float) -> float:
    """The x in 0..1 with ``x^2 (3 - 2x) = share``."""
    return float(0.5 - np.sin(np.arcsin(1.0 - 2.0 * share) / 3.0))
