"""From sampled motion to what is shown: closures, rest, blinks, and the user's amounts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from moda.motion.emotion import EmotionOffsets
from moda.motion.idle import (
    ACCENT_BROWS,
    ACCENT_PITCH_DEGREES,
    AccentRule,
    BlinkRule,
    GazeRule,
    LipClosure,
    LipRest,
    SteadyHead,
    brow_raise,
)
from moda.structures import Floats, Motion, MotionSpace, Speech

MOVABLE: Mapping[str, tuple[str, ...]] = {
    "mesh": ("mouth", "brows", "cheeks"),
    "neural": ("expression",),
}
"""Parts of the motion that the amount of expression acts on; lids and gaze of the mesh have rules
of their own."""

GATE_STEP = 1.0 / 3.0
"""The mouth needs three frames from rest to speech and back."""


def shape_motion(
    pairs: Iterable[tuple[Motion, Speech]],
    *,
    seed: int,
    emotion: EmotionOffsets | None = None,
    blink: bool = True,
    head_motion: float = 1.0,
    expression: float = 1.0,
) -> Iterator[Motion]:
    """Let lips close and rest, let eyes blink and wander, and apply the user's amounts.

    Closures come last: no amount of expression keeps lips open at a p.

    Args:
        pairs: consecutive stretches of motion, each with the speech of the same frames.
        seed: decides blinks, glances and accents.
        emotion: what is added to the frames, also to a resting mouth.
        blink: whether to blink at all.
        head_motion: factor on the head's deviation from rest; 0 holds it still.
        expression: factor on mouth, brows and cheeks.
    """
    blinks, glances, steady = BlinkRule(seed), GazeRule(seed), SteadyHead()
    accents = AccentRule(seed)
    closure: LipClosure | None = None
    rest: LipRest | None = None
    gate = 0.0
    for motion, speech in pairs:
        closure = closure or LipClosure(motion.space)
        rest = rest or LipRest(closure)
        values, pose = motion.values.copy(), motion.space.slice("pose")
        lids = np.zeros(len(values), np.float32)
        for index, activity in enumerate(speech.activity):
            gate += float(np.clip(activity - gate, -GATE_STEP, GATE_STEP))
            rest(values[index], gate)
            values[index, pose] = steady(values[index, pose])
            lids[index] = blinks.next(float(activity)) if blink else 0.0
        loudness = speech.features.mean(1)
        stress = [
            accents.next(float(level), float(activity))
            for level, activity in zip(loudness, speech.activity, strict=True)
        ]
        values += np.outer(stress, accent_change(motion.space))
        lid_columns = motion.space.slice("blink")
        values[:, lid_columns] = 0.0
        values[:, motion.space.slice("gaze")] = [
            glances.next(float(activity)) for activity in speech.activity
        ]
        if emotion is not None:
            values += np.stack([emotion.next() for _ in range(len(values))])
        open_share = 1.0 - values[:, lid_columns]
        values[:, lid_columns] = 1.0 - open_share * (1.0 - lids[:, None])
        shown = scale_motion(
            Motion(values, motion.space),
            rest=motion.space.rest,
            head_motion=head_motion,
            expression=expression,
        )
        if speech.closure is not None:
            for row, amount in zip(shown.values, speech.closure, strict=True):
                closure(row, float(amount))
        yield shown


def accent_change(space: MotionSpace) -> Floats:
    """(D,) what an accent of amount 1 adds to the motion."""
    change = np.float32(ACCENT_BROWS) * brow_raise(space)
    change[space.slice("pitch")] += ACCENT_PITCH_DEGREES
    return change


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
