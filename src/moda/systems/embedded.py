"""The embedded system: small model, pretrained speech encoder, mesh renderer. Offline, on a CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from moda.devices import one_torch_thread
from moda.encoders.face import FaceModels
from moda.encoders.portrait import choose_face, encode_portrait
from moda.encoders.speech import encode_speech
from moda.encoders.tracking import track_motion
from moda.errors import InputError
from moda.motion.hearing.aligning import heard_probabilities
from moda.motion.rules.controls import scale_motion
from moda.motion.seeding import derive_seed
from moda.motion.speaking import speak
from moda.options import FrameOptions, MotionAmounts, SpeakingOptions
from moda.rendering.mesh.plate import shown_region
from moda.rendering.mesh.renderer import MeshRenderer
from moda.structures import Floats, Motion, MotionSpace, Picture
from moda.structures.landmarks import Array
from moda.systems.notes import notes_on
from moda.systems.protocol import Actor, MotionCheckpoint, TimedPictures


@dataclass(frozen=True)
class EmbeddedSystem:
    """A :class:`moda.systems.protocol.FaceSystem` in the mesh motion space."""

    checkpoint: MotionCheckpoint
    models: FaceModels

    @property
    def space(self) -> MotionSpace:
        return self.checkpoint.space

    @property
    def takes_phones(self) -> bool:
        return self.checkpoint.config.motion.speech_embedder.num_phones > 0

    @property
    def _features(self) -> Literal["whisper", "log_mel"]:
        return self.checkpoint.config.motion.speech.mesh_kind

    def find_face(self, image: Picture, face: int | None) -> Array:
        return choose_face(image, self.models, face).points

    def prepare(self, image: Picture, options: FrameOptions) -> Actor:
        if options.eyes is not None or options.lips is not None:
            raise InputError(
                "the opening of eyes and lips can only be set with the neural renderer; "
                "leave it out, or choose --renderer neural"
            )
        portrait = encode_portrait(image, self.space, models=self.models, face=options.face)
        shown = shown_region(portrait, full_frame=options.full_frame)
        renderer = MeshRenderer(
            portrait,
            self.space,
            size=options.longer_side(max(shown.width, shown.height)),
            full_frame=options.full_frame,
            background=options.background,
            whole_mask=self.models.person_mask(image) if options.background else None,
        )
        start = self.space.rest
        start[self.space.slice("mouth")] = renderer.photographed_mouth()
        notes = notes_on(image, portrait.landmarks, options, mouth_covered=portrait.mouth_covered)
        return Actor(renderer, portrait.identity, self.space.rest, start, notes)

    def speak(
        self, actor: Actor, sound: Iterable[Floats], options: SpeakingOptions
    ) -> Iterator[Motion]:
        if options.seed is None:
            seed, sound = derive_seed(actor.identity, sound)
            options = replace(options, seed=seed)
        stretches = speak(
            self.checkpoint.model,
            self.space,
            self.checkpoint.config.sampler,
            encode_speech(sound, self._features),
            identity=actor.identity,
            start=actor.start,
            options=options,
        )
        return _each_on_one_thread(stretches)

    def hear_phones(self, sound: Iterable[Floats]) -> Floats:
        with one_torch_thread():
            return heard_probabilities(self.checkpoint.model, encode_speech(sound, self._features))

    def follow(self, actor: Actor, video: TimedPictures, amounts: MotionAmounts) -> Motion:
        tracked = track_motion(video(), self.models, self.space)
        return scale_motion(
            tracked.motion,
            rest=actor.rest,
            head_motion=amounts.head_motion,
            expression=amounts.expression,
        )


def _each_on_one_thread(stretches: Iterator[Motion]) -> Iterator[Motion]:
    while True:
        with one_torch_thread():
            stretch = next(stretches, None)
        if stretch is None:
            return
        yield stretch
