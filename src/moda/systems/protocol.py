"""What a complete talking face offers to the pipeline.

A system is one way from a portrait and sound to motion and frames: :mod:`moda.systems.embedded`
with the mesh renderer, :mod:`moda.systems.published` with the neural one. Both are used through
this protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from moda.config import ModelConfig
from moda.motion.network import Network
from moda.options import FrameOptions, MotionAmounts, SpeakingOptions
from moda.structures import Floats, Motion, MotionSpace, Picture, Renderer
from moda.structures.landmarks import Array

TimedPictures = Callable[[], Iterator[tuple[float, Picture]]]
"""Begins a video from its start: pictures with their times in seconds."""


class Actor(NamedTuple):
    """A portrait that is ready to move."""

    renderer: Renderer
    identity: Floats
    """(63,) what the motion model is told of the face"""
    rest: Floats
    """(D,) raw motion that gives the portrait as it is, but for a mouth that is open in it"""
    start: Floats | None = None
    """(D,) the same with the mouth as photographed, where that is known: a video begins with it"""
    notes: tuple[str, ...] = ()
    """What the user should know of the picture though it stops nothing"""


class MotionCheckpoint(Protocol):
    """A trained motion network, and what goes with it."""

    @property
    def model(self) -> Network[Any]: ...

    @property
    def space(self) -> MotionSpace: ...

    @property
    def config(self) -> ModelConfig: ...


class FaceSystem(Protocol):
    """One way from a portrait and sound to motion and frames."""

    @property
    def space(self) -> MotionSpace: ...

    @property
    def takes_phones(self) -> bool:
        """Whether the motion model can be told what is said."""
        ...

    def find_face(self, image: Picture, face: int | None) -> Array:
        """Landmarks (478, 3) of a face in pixels of a picture, without making it ready.

        Raises:
            FaceError: There is no such face in the picture.
        """
        ...

    def prepare(self, image: Picture, options: FrameOptions) -> Actor:
        """Find the face of a picture (H, W, 3) and make it ready to move.

        Raises:
            InputError: An option that this system does not have.
            FaceError: There is no such face in the picture.
        """
        ...

    def speak(
        self, actor: Actor, sound: Iterable[Floats], options: SpeakingOptions
    ) -> Iterator[Motion]:
        """Motion at 25 fps from mono 16 kHz samples, in stretches, as the sound arrives."""
        ...

    def hear_phones(self, sound: Iterable[Floats]) -> Floats:
        """Probabilities (N, 17) of phones at 50 Hz in mono 16 kHz samples.

        Raises:
            InputError: The motion model does not recognise phones, or there is too much sound.
        """
        ...

    def follow(self, actor: Actor, video: TimedPictures, amounts: MotionAmounts) -> Motion:
        """Motion at 25 fps of the face in a driving video, fitted to the actor.

        Raises:
            FaceError: The video shows no face.
        """
        ...
