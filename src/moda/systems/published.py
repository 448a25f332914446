"""The published system: MoDA-base on HuBERT features, LivePortrait's networks as renderer.

By default it departs from the released implementation where that costs time or disturbs long
recordings, and nowhere else:

- The last step of the sampler is left out: it costs as much as the others and moves the motion by a
  thousandth of the velocity.
- Speech is encoded in overlapping pieces, so that nothing jumps where they meet; the released
  implementation cuts every 60 seconds.
- Lips are exaggerated against the lips of a silent window that is sampled beforehand, by a gain
  that depends on the past only. The released implementation appends two seconds of silence and
  takes both from the whole clip, which cannot be streamed and lets the end change the beginning.

``compat="reference"`` undoes all of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

import numpy as np

from moda.config import Precision
from moda.encoders.covering import is_mouth_covered
from moda.encoders.face import FaceModels
from moda.encoders.neural.hubert import (
    HubertEncoder,
    encode_speech_hubert,
    encode_speech_hubert_reference,
    pre_emphasise,
)
from moda.encoders.neural.portrait import encode_neural_portrait
from moda.encoders.neural.tracking import relative_motion, track_implicit_motion
from moda.encoders.portrait import choose_face
from moda.encoders.speech import SAMPLES_PER_FRAME
from moda.errors import InputError
from moda.motion.hearing.aligning import heard_probabilities
from moda.motion.noise import NoiseGenerator
from moda.motion.rules.controls import scale_motion
from moda.motion.rules.guiding import keep_mouth_only
from moda.motion.rules.published import (
    LipModulation,
    StartMotion,
    modulate_lips,
    restore_scale,
    start_motion,
)
from moda.motion.sampler import sample_motion, sampling_options
from moda.motion.seeding import derive_seed
from moda.options import FrameOptions, MotionAmounts, SpeakingOptions
from moda.rendering.neural.optimising import optimise
from moda.rendering.neural.renderer import NeuralRenderer
from moda.structures import Floats, Motion, MotionSpace, Picture, Speech
from moda.structures.keypoints import EXPRESSION_SIZE, EYE_KEYPOINTS, EYE_OFFSET
from moda.structures.landmarks import Array
from moda.systems.notes import notes_on
from moda.systems.protocol import Actor, MotionCheckpoint, TimedPictures
from moda.weights.catalogue import find_model
from moda.weights.official import LivePortrait, load_hubert, load_live_portrait

Compat = Literal["reference"]
SILENCE_FRAMES = 50
"""Two seconds of silence that the released implementation appends to the speech."""
SILENT_FRAME = 43
"""Frame of a silent window whose lips are those of silence: the 37th from its end."""


@dataclass(frozen=True)
class PublishedSystem:
    """A :class:`moda.systems.protocol.FaceSystem` in the neural motion space."""

    checkpoint: MotionCheckpoint
    models: FaceModels
    live_portrait: LivePortrait
    hubert: HubertEncoder
    precision: Precision = "float32"
    compat: Compat | None = None

    @property
    def space(self) -> MotionSpace:
        return self.checkpoint.space

    @property
    def takes_phones(self) -> bool:
        return False

    def find_face(self, image: Picture, face: int | None) -> Array:
        return choose_face(image, self.models, face).points

    def prepare(self, image: Picture, options: FrameOptions) -> Actor:
        if options.background is not None:
            raise InputError(
                "the neural renderer leaves the background as it is; leave it out, or choose "
                "--renderer mesh"
            )
        portrait = encode_neural_portrait(
            image, self.models, self.live_portrait.extractor, face=options.face
        )
        renderer = NeuralRenderer(
            portrait,
            self.live_portrait.networks,
            self.space,
            size=None if options.size is None else options.longer_side(max(image.shape[:2])),
            full_frame=options.full_frame,
            eyes=options.eyes,
            lips=options.lips,
            precision=self.precision,
        )
        covered = is_mouth_covered(image, portrait.landmarks, self.models)
        notes = notes_on(image, portrait.landmarks, options, mouth_covered=covered)
        return Actor(renderer, portrait.identity, portrait.face.motion, notes=notes)

    def speak(
        self, actor: Actor, sound: Iterable[Floats], options: SpeakingOptions
    ) -> Iterator[Motion]:
        if options.blink_rate or options.gaze is not None:
            raise InputError(
                "the rate of blinks and the gaze are part of what moda-base samples and cannot be "
                "set; leave them out, or choose moda-tiny"
            )
        if options.seed is None:
            seed, sound = derive_seed(actor.identity, sound)
            options = replace(options, seed=seed)
        motions = self._speak_with_amounts(actor, sound, options)
        if options.lips_only or options.guide is not None:
            return keep_mouth_only(motions, actor.rest, options.guide)
        return motions

    def _speak_with_amounts(
        self, actor: Actor, sound: Iterable[Floats], options: SpeakingOptions
    ) -> Iterator[Motion]:
        make = self._speak_as_reference if self.compat == "reference" else self._speak
        for values in make(actor, sound, options):
            motion = scale_motion(
                Motion(self._with_speech_rules(values, actor.rest), self.space),
                rest=actor.rest,
                head_motion=options.amounts.head_motion,
                expression=options.amounts.expression,
            )
            blinks = options.blink and options.blink_rate != 0
            yield motion if blinks else self._hold_eyes(motion, actor.rest)

    def hear_phones(self, sound: Iterable[Floats]) -> Floats:
        return heard_probabilities(self.checkpoint.model, ())

    def follow(self, actor: Actor, video: TimedPictures, amounts: MotionAmounts) -> Motion:
        driving = track_implicit_motion(video, self.models, self.live_portrait.extractor)
        return scale_motion(
            Motion(relative_motion(driving, actor.rest), self.space),
            rest=actor.rest,
            head_motion=amounts.head_motion,
            expression=amounts.expression,
        )

    def _speak(
        self, actor: Actor, sound: Iterable[Floats], options: SpeakingOptions
    ) -> Iterator[Floats]:
        """Stretches (n, D) of raw motion as the sound arrives."""
        start = start_motion(actor.rest, self.space)
        modulate = LipModulation(self._silent_row(actor, start, options))
        speech = encode_speech_hubert(pre_emphasise(sound), self.hubert)
        for motion in self._sample(actor, start, speech, options):
            values = modulate(self.space.normalize(motion.values))
            yield restore_scale(self.space.denormalize(values), start.scale_ratio)

    def _speak_as_reference(
        self, actor: Actor, sound: Iterable[Floats], options: SpeakingOptions
    ) -> Iterator[Floats]:
        """The motion (T, D) of the whole recording at once."""
        start = start_motion(actor.rest, self.space)
        speech = encode_speech_hubert_reference(sound, self.hubert)
        stretches = list(self._sample(actor, start, speech, options))
        values = np.concatenate([self.space.normalize(motion.values) for motion in stretches])
        values = modulate_lips(values, num_silent=SILENCE_FRAMES)[:-SILENCE_FRAMES]
        yield restore_scale(self.space.denormalize(values), start.scale_ratio)

    def _silent_row(self, actor: Actor, start: StartMotion, options: SpeakingOptions) -> Floats:
        """(D,) normalised motion of this portrait in silence."""
        window = self.checkpoint.model.config.window
        silence = np.zeros(window * SAMPLES_PER_FRAME, np.float32)
        speech = encode_speech_hubert([silence], self.hubert)
        stretches = list(self._sample(actor, start, speech, options))
        values = np.concatenate([motion.values for motion in stretches])
        return self.space.normalize(values[SILENT_FRAME])

    def _sample(
        self,
        actor: Actor,
        start: StartMotion,
        speech: Iterator[Speech],
        options: SpeakingOptions,
    ) -> Iterator[Motion]:
        sampling = sampling_options(self.space, self.checkpoint.config.sampler, options)
        if self.compat == "reference":
            steps = options.num_steps or 10
            sampling |= {"num_steps": steps, "schedule": "published", "drop_last_step": False}
        return sample_motion(
            self.checkpoint.model,
            self.space,
            speech,
            identity=actor.identity,
            style=options.style,
            generator=NoiseGenerator(options.seed or 0),
            initial_motion=start.row,
            precision=self.precision,
            **sampling,
        )

    def _with_speech_rules(self, values: Floats, rest: Floats) -> Floats:
        """Raw motion (n, D) with the portrait's own scale, and the published shift of the eyes."""
        ruled = values.copy()
        ruled[:, self.space.slice("scale")] = rest[self.space.slice("scale")]
        ruled[:, :EXPRESSION_SIZE] += EYE_OFFSET.reshape(-1)
        return ruled

    def _hold_eyes(self, motion: Motion, rest: Floats) -> Motion:
        """The same motion with the eyes as they are in the portrait."""
        values = motion.values.copy()
        eyes = [3 * point + axis for point in EYE_KEYPOINTS for axis in range(3)]
        values[:, eyes] = rest[eyes]
        return Motion(values, motion.space)


def load_published_system(
    checkpoint: MotionCheckpoint, device: str, precision: str, compat: str | None
) -> PublishedSystem:
    """Put a checkpoint of the neural space together with the networks around it.

    Raises:
        InputError: Unknown precision or compatibility, or a precision that the device lacks.
        CheckpointError: A network has not been downloaded, or is damaged.
        MissingExtraError: transformers is not installed.
    """
    if precision not in get_args(Precision):
        raise InputError(
            f"unknown precision {precision!r}; choose one of {', '.join(get_args(Precision))}"
        )
    if compat not in (None, *get_args(Compat)):
        raise InputError(f"unknown compat {compat!r}; the only one is reference")
    live_portrait = load_live_portrait(find_model("liveportrait"), device)
    optimise(live_portrait.networks, cast("Precision", precision))
    return PublishedSystem(
        checkpoint,
        FaceModels(device),
        live_portrait,
        HubertEncoder(load_hubert(find_model("hubert"), device)),
        cast("Precision", precision),
        cast("Compat | None", compat),
    )
