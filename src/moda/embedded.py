"""The embedded system: small model, log-mel speech, mesh renderer. Offline, on a CPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from moda.checkpoints import Checkpoint
from moda.encoders.face import FaceModels
from moda.encoders.portrait import encode_portrait
from moda.encoders.speech import encode_speech
from moda.encoders.tracking import track_motion
from moda.errors import InputError
from moda.motion.controls import scale_motion, shape_motion
from moda.motion.sampler import sample_motion, sampling_options
from moda.rendering.mesh import MeshRenderer
from moda.structures import Floats, Motion, MotionSpace, Picture, Speech
from moda.system import Actor, FrameOptions, MotionAmounts, SpeakingOptions, TimedPictures

DEFAULT_SIZE_PX = 512


@dataclass(frozen=True)
class EmbeddedSystem:
    """A :class:`moda.system.FaceSystem` in the mesh motion space."""

    checkpoint: Checkpoint
    models: FaceModels

    @property
    def renderer(self) -> Literal["mesh"]:
        return "mesh"

    @property
    def space(self) -> MotionSpace:
        return self.checkpoint.space

    def prepare(self, image: Picture, options: FrameOptions) -> Actor:
        if options.eyes is not None or options.lips is not None:
            raise InputError(
                "the opening of eyes and lips can only be set with the neural renderer; "
                "leave it out, or choose --renderer neural"
            )
        portrait = encode_portrait(image, self.space, models=self.models, face=options.face)
        size = (DEFAULT_SIZE_PX if options.size is None else options.size) // 2 * 2
        renderer = MeshRenderer(portrait, self.space, size=size, full_frame=options.full_frame)
        return Actor(renderer, portrait.identity, self.space.rest)

    def speak(
        self, actor: Actor, sound: Iterable[Floats], options: SpeakingOptions
    ) -> Iterator[Motion]:
        sampling = sampling_options(self.space, self.checkpoint.config.sampler)
        if options.num_steps is not None:
            sampling["num_steps"] = options.num_steps
        if options.guidance_scale is not None:
            sampling["guidance_scale"] = options.guidance_scale
        heard = HeardSpeech(encode_speech(sound))
        sampled = sample_motion(
            self.checkpoint.model,
            self.space,
            heard,
            identity=actor.identity,
            style=options.style,
            generator=torch.Generator().manual_seed(options.seed),
            **sampling,
        )
        return shape_motion(
            ((motion, heard.recall(len(motion))) for motion in sampled),
            seed=options.seed,
            blink=options.blink,
            head_motion=options.amounts.head_motion,
            expression=options.amounts.expression,
        )

    def follow(self, actor: Actor, video: TimedPictures, amounts: MotionAmounts) -> Motion:
        tracked = track_motion(video(), self.models, self.space)
        return scale_motion(
            tracked.motion,
            rest=actor.rest,
            head_motion=amounts.head_motion,
            expression=amounts.expression,
        )


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
            parts.append(Speech(stretch.features[:num_frames], stretch.activity[:num_frames]))
            if len(stretch) > num_frames:
                rest = Speech(stretch.features[num_frames:], stretch.activity[num_frames:])
                self._remembered.appendleft(rest)
            num_frames -= len(parts[-1])
        return Speech(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.activity for part in parts]),
        )
