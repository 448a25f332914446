"""Speech to the motion that is shown: listening, sampling, shaping, as one stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from moda.config import SamplerConfig
from moda.motion.flow import Values
from moda.motion.hearing.listening import join_speech, listen, tell_phones
from moda.motion.network import Network
from moda.motion.noise import NoiseGenerator
from moda.motion.rules.controls import shape_motion
from moda.motion.rules.emotion import EmotionOffsets
from moda.motion.sampler import sample_motion, sampling_options
from moda.options import SpeakingOptions
from moda.structures import Floats, Motion, MotionSpace, Speech

SHORTEST_END_FRAMES = 16
"""A blink must be over at the end, and takes less."""


def speak(
    model: Network[Values],
    space: MotionSpace,
    sampler: SamplerConfig,
    speech: Iterable[Speech],
    *,
    identity: Floats,
    start: Floats | None = None,
    options: SpeakingOptions | None = None,
) -> Iterator[Motion]:
    """Motion in the mesh space in stretches, as many frames in all as there is speech.

    ``start`` (D,) is what the portrait shows; its mouth is eased away from.
    """
    options = options or SpeakingOptions()
    if options.phones:
        speech = tell_phones(speech, options.phones)
    heard = HeardSpeech(listen(model, speech))
    sampled = sample_motion(
        model,
        space,
        heard,
        identity=identity,
        style=options.style,
        generator=NoiseGenerator(options.seed or 0),
        **sampling_options(space, sampler, options),
    )
    return shape_motion(
        ((motion, heard.recall(len(motion)), is_last) for motion, is_last in with_end(sampled)),
        options,
        emotion=EmotionOffsets(model, space, options.style),
        start=start,
    )


def with_end(stretches: Iterable[Motion]) -> Iterator[tuple[Motion, bool]]:
    """Each stretch, and whether it is the last; a short last one joins the one before it."""
    held: Motion | None = None
    for stretch in stretches:
        if held is not None and len(stretch) < SHORTEST_END_FRAMES:
            held = Motion(np.concatenate([held.values, stretch.values]), held.space)
            continue
        if held is not None:
            yield held, False
        held = stretch
    if held is not None:
        yield held, True


class HeardSpeech:
    """Passes speech on and remembers what has not been recalled yet, to go with its motion."""

    def __init__(self, speech: Iterable[Speech]) -> None:
        self._speech = speech
        self._remembered: deque[Speech] = deque()

    def __iter__(self) -> Iterator[Speech]:
        for stretch in self._speech:
            self._remembered.append(stretch)
            yield stretch

    def recall(self, num_frames: int) -> Speech:
        """The next ``num_frames`` frames of what has been passed on."""
        parts: list[Speech] = []
        while num_frames > 0:
            stretch = self._remembered.popleft()
            parts.append(stretch[:num_frames])
            if len(stretch) > num_frames:
                self._remembered.appendleft(stretch[num_frames:])
            num_frames -= len(parts[-1])
        return join_speech(parts)
