"""Speech to the motion that is shown while it is spoken, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from moda.config import SamplerConfig
from moda.motion.live.listening import LiveListener
from moda.motion.live.planning import HeadPlanner
from moda.motion.network import Network
from moda.motion.noise import NoiseGenerator
from moda.motion.rules.controls import shape_motion
from moda.motion.rules.emotion import EmotionOffsets
from moda.motion.sampler import sampling_options
from moda.options import SpeakingOptions
from moda.phones import Phone
from moda.structures import EmotionAt, Floats, Motion, MotionSpace, RecentSpeech, Speech, Style


class LiveSpeaker:
    """Takes speech frame by frame, and gives the motion of the frame ``look_ahead`` before each.

    The mouth is what the model reads from the sound at once; head, brows and cheeks are planned
    ahead. Rules of lids, gaze, closures and rest are those of :func:`shape_motion`. Same seed, same
    frames, same calls: the same motion, bit for bit on a CPU.

    Args:
        model: in evaluation mode.
        identity: (63,)
        options: phones are left aside; of the style only what is in force at the beginning.
        look_ahead: frames, at least 4.

    Raises:
        InputError: the model cannot speak live.
    """

    def __init__(
        self,
        model: Network[Any],
        space: MotionSpace,
        sampler: SamplerConfig,
        *,
        identity: Floats,
        options: SpeakingOptions,
        look_ahead: int,
    ) -> None:
        sampling = sampling_options(space, sampler, options)
        self._space = space
        self._listener = LiveListener(model, look_ahead)
        self._planner = HeadPlanner(
            model,
            identity=identity,
            generator=NoiseGenerator(options.seed or 0),
            sampling=sampling,
            pose=space.slice("pose"),
            look_ahead=look_ahead,
        )
        self.num_frames = max(self._listener.num_frames, self._planner.num_frames)
        """Frames of speech, up to the last that was heard, that have to be remembered."""
        gain = sampling["gain"]
        self._gain = np.ones(space.size, np.float32) if gain is None else gain
        self._emotion = EmotionOffsets(model, space, options.style)
        self._planner.express(options.style.at(0.0))
        self._pair: tuple[Motion, Speech] | None = None
        self._shaped = shape_motion(
            self._pairs(),
            SpeakingOptions(seed=options.seed, blink=options.blink, amounts=options.amounts),
            emotion=self._emotion,
        )
        self.activity = 0.0
        """Of the last frame of motion: 1 speaks, 0 rests."""
        self.phone = Phone.SILENCE
        """The most probable one in the last frame of motion."""

    def hear(self, recent: RecentSpeech) -> Motion:
        """Take the last frames of speech; the motion (1, D) of the one ``look_ahead`` before."""
        judged = self._listener.judge(recent)
        values = (judged.mouth + self._planner.next(judged.mouth, recent.features))[None]
        motion = Motion(self._space.denormalize(values) * self._gain, self._space)
        self.activity = float(judged.speech.activity[0])
        self.phone = judged.phone if self.activity >= 0.5 else Phone.SILENCE
        self._pair = motion, judged.speech
        return next(self._shaped)

    def interrupt(self) -> None:
        """Nobody has said what was heard and has not been shown yet: the lips close now.

        Whoever remembers the speech forgets the last ``look_ahead`` frames.
        """
        self._listener.forget()

    def express(self, emotion: str | None, intensity: float = 1.0) -> None:
        """Change the emotion now, over the usual time. Raises :class:`InputError`."""
        entry = EmotionAt(0.0, emotion, intensity)
        self._emotion.follow(Style((entry,)))
        self._planner.express(entry)

    def _pairs(self) -> Iterator[tuple[Motion, Speech, bool]]:
        while self._pair is not None:
            yield *self._pair, False
