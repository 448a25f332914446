"""What the speech does not decide: blinks, and lips that rest closed when nobody speaks.

Both are rules, not samples. A blink has to close the eye fully, and minutes of training clips hold
too few to learn their timing from; real people in the clips keep their lips open in half of the
pauses, which looks wrong on a photograph that was taken with the mouth closed.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from moda.landmarks import lip_gaps
from moda.structures import FRAMES_PER_SECOND, Floats, MotionSpace

BLINK_PROFILE = np.array([0.3, 0.85, 1.0, 0.95, 0.6, 0.3, 0.1], np.float32)
"""Lid position over 0.28 s: closing takes about 0.1 s, opening twice as long."""
MEAN_BLINK_SECONDS = 4.0
SHORTEST_BLINK_SECONDS = 1.0
DOUBLE_BLINK_SHARE = 0.08
PAUSE_BLINK_SHARE = 0.6
"""A pause in the speech draws the next blink when this share of its interval has passed."""

RESTING_GAP = -0.004
"""Lip gap of resting lips in canonical units; below zero, so that they touch for certain."""
RESTING_MEMORY_SECONDS = 1.5
RESTING_SHARE = 0.3
"""How much of the talking mouth's mean stays in the resting one; the rest is the portrait's own."""


class BlinkRule:
    """Draws blinks frame by frame: intervals are log-normal, as in people who talk.

    Source of the numbers: A. Bentivoglio et al., "Analysis of blink rate patterns in normal
    subjects", Movement Disorders 1997 (17 a minute at rest, 26 in conversation, wide spread); the
    mean here is the calmer end, 15 a minute.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng([seed, 0xB11])
        self._remaining = self._interval() * 0.5
        self._waited = 0.0
        self._queue: deque[float] = deque()
        self._was_active = False

    def _interval(self) -> float:
        spread = 0.55
        seconds = self._random.lognormal(np.log(MEAN_BLINK_SECONDS) - spread**2 / 2, spread)
        return max(SHORTEST_BLINK_SECONDS, float(seconds))

    def next(self, activity: float) -> float:
        """Lid position 0..1 of the next frame."""
        self._remaining -= 1.0 / FRAMES_PER_SECOND
        self._waited += 1.0 / FRAMES_PER_SECOND
        pause = self._was_active and activity < 0.5
        self._was_active = activity >= 0.5
        share = self._waited / (self._waited + max(self._remaining, 0.0))
        if not self._queue and (self._remaining <= 0.0 or (pause and share > PAUSE_BLINK_SHARE)):
            self._queue.extend(BLINK_PROFILE.tolist())
            if self._random.random() < DOUBLE_BLINK_SHARE:
                self._queue.extend([0.0, 0.0, *BLINK_PROFILE.tolist()])
            self._waited, self._remaining = 0.0, self._interval()
        return self._queue.popleft() if self._queue else 0.0


class LipRest:
    """Moves the mouth to rest, closed, where the speech activity goes to zero.

    The mouth keeps a little of a smile: resting lips are a share of the slow mean of the talking
    ones, with the gap solved to zero by the smallest change of the face.
    """

    def __init__(self, space: MotionSpace) -> None:
        self._mouth = space.slice("mouth")
        assert space.basis is not None
        basis = space.basis[self._mouth].astype(np.float64)
        gaps = lip_gaps(basis).T  # (9, M)
        flat = basis.reshape(len(basis), -1)
        metric = np.linalg.inv(flat @ flat.T + 1e-4 * np.eye(len(basis)))
        pull = metric @ gaps.T
        self._gaps = gaps
        self._close = pull @ np.linalg.inv(gaps @ pull + 1e-8 * np.eye(len(gaps)))
        self._resting = np.zeros(len(basis))
        self._rate = 1.0 / (RESTING_MEMORY_SECONDS * FRAMES_PER_SECOND)

    def closed(self, mouth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mouth parameters (M,) with every lip gap moved to :data:`RESTING_GAP`."""
        result: NDArray[np.float64] = mouth + self._close @ (RESTING_GAP - self._gaps @ mouth)
        return result

    def __call__(self, values: Floats, gate: float) -> None:
        """Blend one motion row (D,) in place; gate 1 talks, 0 rests."""
        mouth = values[self._mouth].astype(np.float64)
        self._resting += self._rate * gate * (mouth - self._resting)
        if gate < 1.0:
            resting = self.closed(RESTING_SHARE * self._resting)
            values[self._mouth] = gate * mouth + (1.0 - gate) * resting
