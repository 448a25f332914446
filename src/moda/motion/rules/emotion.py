"""What an emotion adds to the face, frame by frame."""

from __future__ import annotations

import numpy as np

from moda.motion.flow import Values
from moda.motion.network import Network
from moda.motion.rules.idle import LipClosure
from moda.structures import EMOTIONS, FRAMES_PER_SECOND, Floats, MotionSpace, Style

CHANGE_SECONDS = 0.6
"""How long a face takes from one emotion to the next."""
CONTACT_GAP, SPEAKING_GAP = 0.006, 0.026
"""Lips that speech opens no further than the first are not parted by an emotion, from the second
on they are parted as far as it goes; canonical units in the middle of the mouth."""


class EmotionOffsets:
    """Raw motion (D,) to be added to consecutive frames, following a schedule smoothly."""

    def __init__(self, model: Network[Values], space: MotionSpace, style: Style) -> None:
        self._style = style
        size = (len(EMOTIONS) + 1, space.size)
        self._table = np.zeros(size, np.float32)
        normalised = model.emotion_offsets()
        if normalised is not None:
            self._table = normalised * space.scale
        self._frame = 0
        self._amounts = np.zeros(len(EMOTIONS))  # the first frame is the photograph

    def next(self) -> Floats:
        """The offset of the next frame."""
        step = 1.0 / (CHANGE_SECONDS * FRAMES_PER_SECOND)
        self._amounts += np.clip(self._wanted() - self._amounts, -step, step)
        self._frame += 1
        smooth = self._amounts**2 * (3.0 - 2.0 * self._amounts)
        return (smooth @ self._table[:-1]).astype(np.float32)

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


def part_with_speech(offsets: Floats, speaking: Floats, closure: LipClosure) -> Floats:
    """Offsets (T, D) that part only those lips which speech (T, D) has opened.

    A smile shows teeth while it speaks, but its lips meet wherever they would without it: at a p,
    at rest, and in between.
    """
    mouth = closure.mouth
    gaps = closure.gaps(speaking[:, mouth].astype(np.float64))
    opened = gaps[:, gaps.shape[1] // 2] - CONTACT_GAP
    amount = np.clip(opened / (SPEAKING_GAP - CONTACT_GAP), 0.0, 1.0)
    kept = amount**2 * (3.0 - 2.0 * amount)
    parting = np.maximum(closure.gaps(offsets[:, mouth].astype(np.float64)), 0.0)
    fitted = offsets.copy()
    for row, surplus in zip(fitted, (1.0 - kept)[:, None] * parting, strict=True):
        row[mouth] += closure.narrowing(surplus)
    return fitted


def _inverse_smoothstep(height: float) -> float:
    """The x in 0..1 with ``x^2 (3 - 2x) = height``."""
    return float(0.5 - np.sin(np.arcsin(1.0 - 2.0 * height) / 3.0))
