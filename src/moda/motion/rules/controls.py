"""From sampled motion to what is shown: closures, rest, blinks, and the user's amounts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from moda.motion.rules.emotion import EmotionOffsets, part_with_speech
from moda.motion.rules.guiding import Guide, mouth_columns
from moda.motion.rules.idle import (
    ACCENT_BROWS,
    ACCENT_PITCH_DEGREES,
    GAZE_GAIN,
    AccentRule,
    BlinkRule,
    Centred,
    EasedStart,
    Fixations,
    LipClosure,
    LipRest,
    SteadyHead,
    brow_raise,
)
from moda.options import SpeakingOptions
from moda.structures import Floats, Motion, MotionSpace, Speech

MOVABLE: Mapping[str, tuple[str, ...]] = {
    "mesh": ("mouth", "brows", "cheeks"),
    "neural": ("expression",),
}
"""Parts of the motion that the amount of expression acts on; lids and gaze of the mesh have rules
of their own."""

EASED = ("brows", "cheeks")
"""Parts of the mesh motion that begin as the portrait has them."""

MOUTH_EASING_FRAMES = 5.0
"""Time constant with which the photographed mouth is left, 0.2 s."""

GATE_STEP = 1.0 / 3.0
"""The mouth needs three frames from rest to speech and back."""


def shape_motion(
    pairs: Iterable[tuple[Motion, Speech, bool]],
    options: SpeakingOptions,
    *,
    emotion: EmotionOffsets | None = None,
    start: Floats | None = None,
) -> Iterator[Motion]:
    """Let lips close and rest, let eyes blink and wander, and apply the user's amounts.

    Closures come last: no amount of expression keeps lips open at a p.

    Args:
        pairs: consecutive stretches of motion, each with the speech of the same frames, and whether
            it is known to be the last.
        options: the seed decides blinks and accents; the amounts are factors on the deviation of
            the head from rest, and on mouth, brows and cheeks.
        emotion: what is added to the frames, also to a resting mouth.
        start: (D,) what the portrait shows, where its mouth is not the resting one.
    """
    face = _ShownFace(options, emotion, start)
    for motion, speech, is_last in pairs:
        shown = scale_motion(
            face.shape(motion, speech, is_last=is_last),
            rest=motion.space.rest,
            head_motion=options.amounts.head_motion,
            expression=options.amounts.expression,
        )
        if speech.closure is not None:
            closure = face.closure(motion.space)
            amounts = closure.completed(motion.values, speech.closure)
            for row, amount in zip(shown.values, amounts, strict=True):
                closure(row, float(amount))
        yield shown


class _ShownFace:
    """What is carried from one stretch of motion to the next."""

    def __init__(
        self, options: SpeakingOptions, emotion: EmotionOffsets | None, start: Floats | None
    ) -> None:
        seed = options.seed or 0
        self._emotion = emotion
        self._blink_rate = options.blink_rate if options.blink else 0.0
        self._gaze, self._lips_only = options.gaze, options.lips_only
        self._guide = None if options.guide is None else Guide(options.guide)
        self._blinks = BlinkRule(seed, self._blink_rate)
        self._fixations = Fixations(on_camera=self._gaze == "camera")
        self._steady = SteadyHead()
        self._centred_head, self._centred_gaze = Centred(), Centred()
        self._eased = EasedStart()
        self._start = None if start is None else start.copy()
        self._accents = AccentRule(seed)
        self._closure: LipClosure | None = None
        self._rest: LipRest | None = None
        self._gate = 0.0

    def closure(self, space: MotionSpace) -> LipClosure:
        """What closes lips in this space."""
        self._closure = self._closure or LipClosure(space)
        return self._closure

    def shape(self, motion: Motion, speech: Speech, *, is_last: bool) -> Motion:
        """The same stretch with resting lips, blinks, gaze and emotion."""
        space, values = motion.space, motion.values.copy()
        self._rest = self._rest or LipRest(self.closure(space))
        pose, gaze_columns = space.slice("pose"), space.slice("gaze")
        lid_columns = space.slice("blink")
        eased = [k for name in EASED for k in range(space.size)[space.slice(name)]]
        lids, gaze = np.zeros((len(values), 1), np.float32), np.zeros((len(values), 2), np.float32)
        for index, activity in enumerate(speech.activity):
            self._gate += float(np.clip(activity - self._gate, -GATE_STEP, GATE_STEP))
            self._rest(values[index], self._gate)
            self._ease_from_start(values[index], space)
            head = self._centred_head(values[index, pose])
            values[index, pose] = self._steady(space.rest[pose] + head)
            values[index, eased] = self._eased(values[index, eased])
            lids[index] = self._blinks.next(
                float(activity), len(values) - index if is_last else None
            )
            wanted = GAZE_GAIN * self._centred_gaze(values[index, gaze_columns])
            gaze[index] = self._fixations.next(wanted.astype(np.float32))
        values += np.outer(self._stress(speech), accent_change(space))
        face = self._other_face(values, space)
        added: Floats = np.zeros_like(values)
        if self._emotion is not None:
            added = np.stack([self._emotion.next() for _ in range(len(values))])
            added = part_with_speech(added, face, self.closure(space))
        if self._lips_only:
            added[:, _all_but(mouth_columns(space), space)] = 0.0
        is_ruled = self._guide is None and not self._lips_only
        if is_ruled or self._gaze is not None:
            face[:, space.slice("gaze")] = gaze
        if is_ruled or self._blink_rate is not None:
            face[:, lid_columns] = 0.0
        else:
            lids[:] = 0.0
        face += added
        open_share = 1.0 - face[:, lid_columns]
        face[:, lid_columns] = 1.0 - open_share * (1.0 - lids)
        return Motion(face, space)

    def _ease_from_start(self, row: Floats, space: MotionSpace) -> None:
        """Add what is left of the photographed mouth to a row (D,) in place."""
        if self._start is not None:
            mouth = space.slice("mouth")
            row[mouth] += self._start[mouth]
            self._start = self._start * np.float32(np.exp(-1.0 / MOUTH_EASING_FRAMES))

    def _stress(self, speech: Speech) -> list[float]:
        """(T,) how much brows and head go along with the speech."""
        loudness = speech.loudness if speech.loudness is not None else np.zeros(len(speech))
        levels = zip(loudness, speech.activity, strict=True)
        return [self._accents.next(float(level), float(active)) for level, active in levels]

    def _other_face(self, values: Floats, space: MotionSpace) -> Floats:
        """The mouth of ``values`` (T, D) in the face around it: ours, the guide's, or at rest."""
        face = values.copy()
        others = _all_but(mouth_columns(space), space)
        if self._guide is not None:
            face[:, others] = np.stack([self._guide.next() for _ in values])[:, others]
        elif self._lips_only:
            face[:, others] = space.rest[others]
        return face


def accent_change(space: MotionSpace) -> Floats:
    """(D,) what an accent of amount 1 adds to the motion."""
    change = np.float32(ACCENT_BROWS) * brow_raise(space)
    change[space.slice("pitch")] += ACCENT_PITCH_DEGREES
    return change


def _all_but(columns: list[int], space: MotionSpace) -> list[int]:
    return [column for column in range(space.size) if column not in columns]


def scale_motion(
    motion: Motion, *, rest: Floats, head_motion: float = 1.0, expression: float = 1.0
) -> Motion:
    """Multiply the deviation of head and expression from those at ``rest`` (D,) by factors."""
    space, values = motion.space, motion.values.copy()
    factors = dict.fromkeys(MOVABLE[space.name], expression) | {"pose": head_motion}
    for name, factor in factors.items():
        part = space.slice(name)
        values[:, part] = rest[part] + factor * (values[:, part] - rest[part])
    return Motion(values, space)
