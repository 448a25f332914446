"""A portrait that follows the face in front of a camera: a picture goes in, a picture comes out.

    picture --> landmarks --> motion, relative to the person at rest --> picture of the portrait

There is no clock and no thread: a picture is answered when it comes. Where no face is seen, the
portrait waits calmly, blinking.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from moda.encoders.live_tracking import FaceState, LiveTracker
from moda.live.preparing import prepare_live
from moda.motion.rules.controls import scale_motion, shape_motion
from moda.options import FrameOptions, MotionAmounts, SpeakingOptions
from moda.pipeline import TalkingHead
from moda.structures import FRAMES_PER_SECOND, Floats, Motion, Picture, Speech
from moda.systems.embedded import EmbeddedSystem
from moda.systems.protocol import Actor

HELD_SECONDS = 0.2
"""A face that is lost for less is waited for where it was."""
EASED_SECONDS = 0.6
"""In which the portrait goes over to waiting, and back."""
LONGEST_STEP_SECONDS = 0.5

NOTES: dict[FaceState, str] = {
    "absent": "no face is seen; the portrait waits",
    "learning": "look at the camera with your mouth closed",
}
SEVERAL_FACES = "several faces are seen; one of them is followed"


class ReenactedFrame(NamedTuple):
    """What became of one picture."""

    number: int
    """Counted from 0."""
    picture: Picture
    """(H, W, 3), or (H, W, 4) before a transparent background"""
    state: FaceState
    motion: Motion
    """(1, D) what is drawn"""
    note: str | None
    """What the user should know"""


class LiveReenactment:
    """One portrait that follows whoever is in the pictures.

    Args:
        system: of the mesh renderer.
        actor: what the system has prepared.
        amounts: factors on the movements of the head and of the face.
    """

    def __init__(
        self, system: EmbeddedSystem, actor: Actor, amounts: MotionAmounts | None = None
    ) -> None:
        self._space, self._actor = system.space, actor
        self._amounts = amounts or MotionAmounts()
        self._tracker = LiveTracker(system.models, system.space)
        self._waiting = shape_motion(self._silence(), SpeakingOptions(seed=0))
        self._followed: Floats = actor.rest
        """(D,) the last motion that was seen"""
        self._lost_seconds = HELD_SECONDS + EASED_SECONDS
        self._share = 0.0
        """0 waits, 1 follows."""
        self._number = 0

    @classmethod
    def of(
        cls,
        head: TalkingHead,
        portrait: str | Path | Picture,
        amounts: MotionAmounts | None = None,
        *,
        frame: FrameOptions | None = None,
    ) -> LiveReenactment:
        """Let a portrait, a file or a picture (H, W, 3), follow a camera.

        Raises:
            InputError: The model cannot do it.
            MediaError, FaceError: As :meth:`TalkingHead.reenact`.
        """
        system, actor = prepare_live(head, portrait, frame, "follow a camera")
        return cls(system, actor, amounts)

    @property
    def frame_size(self) -> tuple[int, int]:
        """(width, height)"""
        return self._actor.renderer.frame_size

    def learn_again(self) -> None:
        """Another person, or another camera: who is seen at rest is learned anew."""
        self._tracker.learn_again()

    def push_frame(
        self, picture: Picture, seconds: float = 1.0 / FRAMES_PER_SECOND
    ) -> ReenactedFrame:
        """The portrait as the face in a picture (H, W, 3), taken ``seconds`` after the last one."""
        seconds = float(np.clip(seconds, 1e-3, LONGEST_STEP_SECONDS))
        seen = self._tracker.see(picture, seconds)
        self._lost_seconds = 0.0 if seen.motion is not None else self._lost_seconds + seconds
        if seen.motion is not None:
            self._followed = scale_motion(
                Motion(seen.motion[None], self._space),
                rest=self._actor.rest,
                head_motion=self._amounts.head_motion,
                expression=self._amounts.expression,
            ).values[0]
        way = seconds / EASED_SECONDS
        follows = self._lost_seconds <= HELD_SECONDS
        self._share = float(np.clip(self._share + (way if follows else -way), 0.0, 1.0))
        weight = np.float32(self._share**2 * (3.0 - 2.0 * self._share))
        waiting = next(self._waiting).values[0]
        row = waiting + weight * (self._followed - waiting)
        motion = Motion(row[None], self._space)
        self._number += 1
        note = NOTES.get(seen.state, SEVERAL_FACES if seen.num_others else None)
        drawn = next(self._actor.renderer.render(motion))
        return ReenactedFrame(self._number - 1, drawn, seen.state, motion, note)

    def _silence(self) -> Iterator[tuple[Motion, Speech, bool]]:
        """Frames in which nobody speaks."""
        silence = Speech(np.zeros((1, 0), np.float32), np.zeros(1, np.float32))
        while True:
            yield Motion(self._actor.rest[None].copy(), self._space), silence, False
