"""What is not sampled: blinks, closed lips where they must be and where nobody speaks, inertia.

All are rules. A blink has to close the eye fully, and minutes of training clips hold too few blinks
to learn their timing from; real people in the clips keep their lips open in half of the pauses,
which looks wrong on a photograph that was taken with the mouth closed.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from moda.options import USUAL_BLINK_RATE
from moda.structures import FRAMES_PER_SECOND, Floats, MotionSpace
from moda.structures.landmarks import LEFT_BROW, RIGHT_BROW, lip_gaps

BLINK_PROFILE = np.array([0.3, 0.85, 1.0, 0.95, 0.6, 0.3, 0.1], np.float32)
"""Lid position over 0.28 s: closing takes about 0.1 s, opening twice as long."""
MEAN_BLINK_SECONDS = 4.0
"""With pauses and double blinks this gives :data:`moda.systems.protocol.USUAL_BLINK_RATE`."""
SHORTEST_BLINK_SECONDS = 1.0
DOUBLE_BLINK_SHARE = 0.08
PAUSE_BLINK_SHARE = 0.6
"""A pause in the speech draws the next blink when this share of its interval has passed."""

RESTING_GAP = -0.004
"""Lip gap of resting lips in canonical units; below zero, so that they touch for certain."""
NEARLY_CLOSED_GAP = 0.06
"""Middle lip gap below which lips close wholly at a hint, canonical units."""
HINTED_CLOSURE = 0.15
"""Least amount of closing that is a hint."""
CLOSING_DAMPING = 1e-3
"""Gaps that are solved for exactly, one against its neighbour, would twist the lips."""
RESTING_MEMORY_SECONDS = 1.5
RESTING_SHARE = 0.3
"""How much of the talking mouth's mean stays in the resting one; the rest is the portrait's own."""


def draw_seconds(random: np.random.Generator, mean: float, spread: float, shortest: float) -> float:
    """A log-normal time of the given mean and spread of its logarithm, not below ``shortest``."""
    return max(shortest, float(random.lognormal(np.log(mean) - spread**2 / 2, spread)))


class BlinkRule:
    """Draws blinks frame by frame: intervals are log-normal, as in people who talk.

    Source of the numbers: A. Bentivoglio et al., "Analysis of blink rate patterns in normal
    subjects", Movement Disorders 1997 (17 a minute at rest, 26 in conversation, wide spread); the
    mean here is the calmer end, 15 a minute.
    """

    def __init__(self, seed: int, rate: float | None = None) -> None:
        """``rate`` is in blinks a minute; None is :data:`USUAL_BLINK_RATE`, 0 never."""
        self._random = np.random.default_rng([seed, 0xB11])
        self._slowness = 1.0 if rate is None else USUAL_BLINK_RATE / max(rate, 1e-9)
        self._is_off = rate == 0.0
        self._remaining = self._interval() * 0.5
        self._waited = 0.0
        self._queue: deque[float] = deque()
        self._was_active = False

    def _interval(self) -> float:
        shortest = SHORTEST_BLINK_SECONDS * min(self._slowness, 1.0)
        return draw_seconds(self._random, MEAN_BLINK_SECONDS * self._slowness, 0.55, shortest)

    def next(self, activity: float, frames_left: int | None = None) -> float:
        """Lid position 0..1 of the next frame; no blink begins that would outlast the end.

        ``frames_left`` counts this frame and those after it, where the end is known.
        """
        if self._is_off:
            return 0.0
        self._remaining -= 1.0 / FRAMES_PER_SECOND
        self._waited += 1.0 / FRAMES_PER_SECOND
        pause = self._was_active and activity < 0.5
        self._was_active = activity >= 0.5
        share = self._waited / (self._waited + max(self._remaining, 0.0))
        is_time = self._remaining <= 0.0 or (pause and share > PAUSE_BLINK_SHARE)
        if frames_left is not None and frames_left <= 2 * len(BLINK_PROFILE) + 2:
            is_time = False
        if not self._queue and is_time:
            self._queue.extend(BLINK_PROFILE.tolist())
            if self._random.random() < DOUBLE_BLINK_SHARE:
                self._queue.extend([0.0, 0.0, *BLINK_PROFILE.tolist()])
            self._waited, self._remaining = 0.0, self._interval()
        return self._queue.popleft() if self._queue else 0.0


SHORTEST_FIXATION_SECONDS = 0.24
SACCADE_SIZE = np.array([0.006, 0.004])
"""How far the sampled gaze must go from where the eyes rest before they follow, canonical units;
0.02 is about five degrees."""
SACCADE_SHARE = 0.75
"""Of the way that the eyes make in one frame."""
GAZE_GAIN = 2.0
"""Of the sampled gaze, which goes half as far as that of filmed speakers."""
ON_CAMERA_SHARE = 0.2
"""Of the way, for eyes that are to stay on the camera; none at all looks dead."""


class Fixations:
    """Turns the gaze that the flow samples into what eyes do: rest, and jump.

    Eyes never drift slowly from one place to another (R. Leigh and D. Zee, "The neurology of eye
    movements", 2015); sampled gaze does, as tracked gaze does.
    """

    def __init__(self, *, on_camera: bool = False) -> None:
        self._share = ON_CAMERA_SHARE if on_camera else 1.0
        self._target = np.zeros(2)
        self._gaze = np.zeros(2)
        self._age = 0

    def next(self, sampled: Floats) -> Floats:
        """Gaze (2,) of the next frame, across and down, canonical units."""
        self._age += 1
        wanted = self._share * sampled.astype(np.float64)
        far = np.linalg.norm((wanted - self._target) / SACCADE_SIZE) > 1.0
        if far and self._age >= SHORTEST_FIXATION_SECONDS * FRAMES_PER_SECOND:
            self._target, self._age = wanted, 0
        self._gaze = self._gaze + SACCADE_SHARE * (self._target - self._gaze)
        return self._gaze.astype(np.float32)


ACCENT_PROFILE = np.array([0.25, 0.7, 1.0, 0.95, 0.8, 0.6, 0.42, 0.28, 0.17, 0.08], np.float32)
"""Course of an accent over 0.4 s."""
ACCENT_LEVEL = 0.8
"""How many standard deviations above its mean the loudness of a stressed syllable is."""
ACCENT_SHARE = 0.6
"""Of the stressed syllables that brows and head go along with."""
ACCENT_COOLDOWN_SECONDS = 0.6
ACCENT_MEMORY_SECONDS = 4.0
SMALLEST_SPREAD_NATS = 0.4
ACCENT_BROWS = 0.012
"""How far the brows go up, canonical units: little more than one standard deviation of theirs."""
ACCENT_PITCH_DEGREES = -1.5
"""How far the head goes up."""


class AccentRule:
    """Draws accents frame by frame: brows and head rise a little with some stressed syllables.

    In the training clips both are highest when the loudness is (correlations 0.14 and 0.18 at the
    best lag, see docs/experiments.md). P. Ekman, "About brows: emotional and conversational
    signals", 1979, calls these movements batons.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng([seed, 0xACCE])
        self._rate = 1.0 / (ACCENT_MEMORY_SECONDS * FRAMES_PER_SECOND)
        self._fast = self._mean = 0.0
        self._variance = 1.0
        self._heard = 0
        self._was_loud = False
        self._cooldown = 0.0
        self._queue: deque[float] = deque()

    def next(self, loudness: float, activity: float) -> float:
        """Amount of the next frame, 0 to 1.3, from the mean of its features in nats."""
        self._cooldown -= 1.0 / FRAMES_PER_SECOND
        self._fast += 0.6 * (loudness - self._fast)
        is_loud = False
        if activity >= 0.5:
            self._heard += 1
            rate = max(self._rate, 1.0 / self._heard)
            self._mean += rate * (loudness - self._mean)
            self._variance += rate * ((loudness - self._mean) ** 2 - self._variance)
            spread = max(float(np.sqrt(self._variance)), SMALLEST_SPREAD_NATS)
            is_loud = self._fast > self._mean + ACCENT_LEVEL * spread
        begins = is_loud and not self._was_loud and self._cooldown <= 0.0
        self._was_loud = is_loud
        if begins:
            self._cooldown = ACCENT_COOLDOWN_SECONDS
            if self._random.random() < ACCENT_SHARE:
                self._queue.extend((self._random.uniform(0.5, 1.3) * ACCENT_PROFILE).tolist())
        return self._queue.popleft() if self._queue else 0.0


def brow_raise(space: MotionSpace) -> Floats:
    """(D,) the smallest change of the brows that lifts them by 1 canonical unit, raw motion."""
    assert space.basis is not None
    brows = space.slice("brows")
    lift = -space.basis[brows][:, list(RIGHT_BROW + LEFT_BROW), 1].astype(np.float64).mean(1)
    change = np.zeros(space.size, np.float32)
    spread = space.std[brows].astype(np.float64) ** 2
    change[brows] = spread * lift / (lift @ (spread * lift))
    return change


STEADY_SECONDS = 0.16
"""Time constant of the head's inertia."""


class SteadyHead:
    """Takes the tremble off the head: a low-pass of second order, from frame to frame."""

    def __init__(self) -> None:
        self._share = 1.0 - np.exp(-1.0 / (STEADY_SECONDS * FRAMES_PER_SECOND))
        self._first: NDArray[np.float64] | None = None
        self._second: NDArray[np.float64] | None = None

    def __call__(self, pose: Floats) -> Floats:
        """Pose (7,) of the next frame -> the pose that is shown."""
        value = pose.astype(np.float64)
        if self._first is None or self._second is None:
            self._first = self._second = value
        self._first = self._first + self._share * (value - self._first)
        self._second = self._second + self._share * (self._first - self._second)
        return self._second.astype(np.float32)


CENTRING_SECONDS = 5.0
EASING_SECONDS = 1.0


class Centred:
    """Motion that begins at rest and stays around it: no drift, however long the speech is.

    What is taken off is a slow mean that begins at the first frame: a high-pass of first order.
    """

    def __init__(self) -> None:
        self._rate = 1.0 / (CENTRING_SECONDS * FRAMES_PER_SECOND)
        self._mean: NDArray[np.float64] | None = None

    def __call__(self, values: Floats) -> Floats:
        """Values (n,) of the next frame -> their deviation from the slow mean."""
        row = values.astype(np.float64)
        if self._mean is None:
            self._mean = row.copy()
        self._mean += self._rate * (row - self._mean)
        return (row - self._mean).astype(np.float32)


class EasedStart:
    """Values that begin at the portrait's own and ease away from them."""

    def __init__(self) -> None:
        self._excess: NDArray[np.float64] | None = None

    def __call__(self, values: Floats) -> Floats:
        """Deviation (n,) from the portrait in the next frame -> what is shown."""
        row = values.astype(np.float64)
        if self._excess is None:
            self._excess = row.copy()
        shown: Floats = (row - self._excess).astype(np.float32)
        self._excess *= np.exp(-1.0 / (EASING_SECONDS * FRAMES_PER_SECOND))
        return shown


class LipClosure:
    """Brings the lips together by the smallest change of the face."""

    def __init__(self, space: MotionSpace) -> None:
        self.mouth = space.slice("mouth")
        assert space.basis is not None
        basis = space.basis[self.mouth].astype(np.float64)
        gaps = lip_gaps(basis).T  # (9, M)
        flat = basis.reshape(len(basis), -1)
        metric = np.linalg.inv(flat @ flat.T + 1e-4 * np.eye(len(basis)))
        pull = metric @ gaps.T
        self._gaps = gaps
        met = gaps @ pull
        damping = CLOSING_DAMPING * np.trace(met) / len(met) * np.eye(len(met))
        self._close = pull @ np.linalg.inv(met + damping)

    def closed(self, mouth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mouth parameters (M,) with every lip gap moved to :data:`RESTING_GAP`."""
        return mouth + self._close @ (RESTING_GAP - self._gaps @ mouth)

    def narrowing(self, gaps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Change of the mouth (M,) that makes the nine gaps smaller by ``gaps`` (9,)."""
        return -self._close @ gaps

    def gaps(self, mouth: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 9) lip gaps of mouth parameters (..., M)."""
        return mouth @ self._gaps.T

    def __call__(self, values: Floats, amount: float) -> None:
        """Close the lips of one motion row (D,) in place by an amount of 0 to 1.

        Lips that touch everywhere stay as they are.
        """
        mouth = values[self.mouth].astype(np.float64)
        if amount > 0.0 and self.gaps(mouth).max() > 0.0:
            values[self.mouth] = mouth + amount * (self.closed(mouth) - mouth)

    def completed(self, values: Floats, amounts: Floats) -> Floats:
        """Amounts of closing (T,) of which hints are 1 where the lips of (T, D) nearly touch."""
        mouth = values[:, self.mouth].astype(np.float64)
        is_near = self.gaps(mouth)[:, len(self._gaps) // 2] < NEARLY_CLOSED_GAP
        return np.where(is_near & (amounts >= HINTED_CLOSURE), np.float32(1.0), amounts)


class LipRest:
    """Moves the mouth to rest, closed, where the speech activity goes to zero.

    The mouth keeps a little of a smile: resting lips are a share of the slow mean of the talking
    ones, with the gap solved to zero by the smallest change of the face.
    """

    def __init__(self, closure: LipClosure) -> None:
        self._closure = closure
        mouth = closure.mouth
        self._resting = np.zeros(mouth.stop - mouth.start)
        self._rate = 1.0 / (RESTING_MEMORY_SECONDS * FRAMES_PER_SECOND)

    def __call__(self, values: Floats, gate: float) -> None:
        """Blend one motion row (D,) in place; gate 1 talks, 0 rests."""
        mouth = values[self._closure.mouth].astype(np.float64)
        self._resting += self._rate * gate * (mouth - self._resting)
        if gate < 1.0:
            resting = self._closure.closed(RESTING_SHARE * self._resting)
            values[self._closure.mouth] = gate * mouth + (1.0 - gate) * resting
