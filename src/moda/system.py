"""What a complete talking face offers to the pipeline, and the options that it takes.

A system is one way from a portrait and sound to motion and frames: :mod:`moda.embedded` with the
mesh renderer, :mod:`moda.published` with the neural one. Both are used through this protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, get_args

from moda.errors import InputError
from moda.landmarks import Array
from moda.phones import PhoneSegment
from moda.structures import Background, Floats, Motion, MotionSpace, Picture, Renderer, Style

Gaze = Literal["wander", "camera"]
MIN_SIZE_PX, MAX_SIZE_PX = 64, 4096
USUAL_BLINK_RATE, MAX_BLINK_RATE = 17.0, 60.0
"""Blinks a minute: of people who talk calmly, and the most that can be told apart."""

TimedPictures = Callable[[], Iterator[tuple[float, Picture]]]
"""Begins a video from its start: pictures with their times in seconds."""


@dataclass(frozen=True)
class FrameOptions:
    """How a portrait is framed. Raises :class:`InputError` for values outside the limits."""

    size: int | Literal["own"] | None = None
    """Longer side in pixels, 64..4096, or that of the picture; None leaves it to the renderer."""
    full_frame: bool = True
    """The whole picture, not only the square around the head."""
    face: int | None = None
    """Which face of the picture, from left to right from 1; None is the largest."""
    eyes: float | None = None
    """Opening of the eyes as a share of their width, 0..0.8; None leaves them as they are."""
    lips: float | None = None
    """Opening of the lips as a share of the mouth's width, 0..0.8; None: as they are."""
    background: Background | None = None
    """What is behind the person; None is the picture itself."""

    def longer_side(self, image: Picture, usual: int) -> int:
        """Longer side of the frames of a picture (H, W, 3), even."""
        wanted = usual if self.size is None else self.size
        own = min(max(max(image.shape[:2]), MIN_SIZE_PX), MAX_SIZE_PX)
        return (own if wanted == "own" else int(wanted)) // 2 * 2

    def __post_init__(self) -> None:
        if isinstance(self.size, str) and self.size != "own":
            raise InputError(f"size {self.size!r} is neither a number of pixels nor own")
        if self.size is not None and self.size != "own":
            require_range("size in pixels", self.size, MIN_SIZE_PX, MAX_SIZE_PX)
        if self.face is not None and self.face < 1:
            raise InputError(
                f"face {self.face} is below 1; faces are counted from left to right from 1"
            )
        for name, share in (("eyes", self.eyes), ("lips", self.lips)):
            if share is not None:
                require_range(f"opening of the {name}", share, 0.0, 0.8)


@dataclass(frozen=True)
class MotionAmounts:
    """Factors on what moves. Raises :class:`InputError` for values outside 0..2."""

    head_motion: float = 1.0
    expression: float = 1.0

    def __post_init__(self) -> None:
        require_range("amount of head motion", self.head_motion, 0, 2)
        require_range("amount of expression", self.expression, 0, 2)


@dataclass(frozen=True)
class SpeakingOptions:
    """How speech becomes motion. Raises :class:`InputError` for values outside the limits."""

    style: Style = field(default_factory=Style)
    seed: int | None = None
    """None derives one from portrait and speech."""
    num_steps: int | None = None
    """Of the sampler, 1..1000; None is what the model was made for."""
    guidance_scale: float | None = None
    """How much the motion follows speech and emotion, 1..10; None as for the steps."""
    blink: bool = True
    blink_rate: float | None = None
    """Blinks a minute, 0..60; None is that of people who talk, or the guide's."""
    gaze: Gaze | None = None
    """Eyes that wander a little or stay on the camera; None: wander, or as the guide's do."""
    lips_only: bool = False
    """Whether nothing but the mouth moves, or what else moves is the guide's alone."""
    guide: Motion | None = None
    """Motion at 25 fps of a driving video: its head, eyes and brows with the lips of the speech."""
    amounts: MotionAmounts = field(default_factory=MotionAmounts)
    phones: tuple[PhoneSegment, ...] = ()
    """What is said, with its times, where it is known."""

    def __post_init__(self) -> None:
        if self.seed is not None:
            require_range("seed", self.seed, 0, 2**63 - 1)
        if self.blink_rate is not None:
            require_range("blinks a minute", self.blink_rate, 0.0, MAX_BLINK_RATE)
        if self.gaze not in (None, *get_args(Gaze)):
            raise InputError(f"unknown gaze {self.gaze!r}; choose wander or camera")
        if self.num_steps is not None:
            require_range("number of steps", self.num_steps, 1, 1000)
        if self.guidance_scale is not None:
            require_range("guidance scale", self.guidance_scale, 1.0, 10.0)


class Actor(NamedTuple):
    """A portrait that is ready to move."""

    renderer: Renderer
    identity: Floats
    """(63,) what the motion model is told of the face"""
    rest: Floats
    """(D,) raw motion that gives the portrait as it is, but for a mouth that is open in it"""
    start: Floats | None = None
    """(D,) the same with the mouth as photographed, where that is known: a video begins with it"""


class FaceSystem(Protocol):
    """One way from a portrait and sound to motion and frames."""

    @property
    def renderer(self) -> Literal["mesh", "neural"]: ...

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


def require_range(name: str, value: float, low: float, high: float) -> None:
    """Raise :class:`InputError` unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise InputError(f"{name} {value:g} is outside {low:g}..{high:g}; choose a value inside")
