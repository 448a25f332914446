"""What the stages hand to each other.

Arrays are numpy. Axis letters in shape comments: T frames, D motion, F speech features,
K key points, H, W picture, S crop size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from moda.errors import InputError
from moda.landmarks import Similarity, identity_vector

FRAMES_PER_SECOND = 25.0
"""Rate of the motion and of the speech features. The video may have another rate."""

UNKNOWN_PHONE = -1
"""Class of a phone that nobody knows."""

EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")
"""In the order of the published network's embedding table; one more row there means "none"."""

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]
"""(H, W, 3), RGB."""


@dataclass(frozen=True)
class MotionSpace:
    """The joint parameter space of one renderer, with the statistics that go with it.

    A motion vector is ``[expression (E), scale (1), translation (3), pitch, yaw, roll]``. The
    expression is split further in named groups. ``pose_reference`` says what the pose is relative
    to: ``"rest"`` - the head as it is in the portrait (scale 1, translation 0 in units of the
    outer-eye distance, angles 0), or ``"camera"``.
    """

    name: Literal["mesh", "neural"]
    groups: tuple[tuple[str, int], ...]
    """Name and size of each part of the expression, in order."""
    mean: Floats  # (D,)
    std: Floats  # (D,)
    pose_reference: Literal["rest", "camera"]
    canonical_face: Floats | None = None
    """Mean face (478, 3) in canonical units; only in the mesh space."""
    triangles: NDArray[np.int32] | None = None
    """(N, 3) indices of surface points, eyes and mouth left open; only in the mesh space."""
    basis: Floats | None = None
    """(B, 468, 3): vertex offsets in canonical units of the first B expression parameters."""

    @property
    def expression_size(self) -> int:
        return sum(size for _, size in self.groups)

    @property
    def size(self) -> int:
        """Length D of the motion vector."""
        return self.expression_size + 7

    @property
    def rest(self) -> Floats:
        """(D,) raw motion of a face at rest, where that is the same for every portrait."""
        row = np.zeros(self.size, np.float32)
        row[self.expression_size] = 1.0
        return row

    def slice(self, name: str) -> slice:
        """Where a group of the expression, or a part of the pose, lies in the vector."""
        pose = (("scale", 1), ("translation", 3), ("pitch", 1), ("yaw", 1), ("roll", 1))
        start = 0
        for part, size in (*self.groups, *pose):
            if part == name:
                return slice(start, start + size)
            start += size
        if name == "expression":
            return slice(0, self.expression_size)
        if name == "pose":
            return slice(self.expression_size, self.size)
        known = ", ".join(part for part, _ in (*self.groups, *pose))
        raise KeyError(f"motion has no part {name!r}; it has {known}")

    @property
    def scale(self) -> Floats:
        """(D,) what one unit of normalised motion is in raw units."""
        return self.std + np.float32(1e-5)

    def normalize(self, values: Floats) -> Floats:
        """Raw motion (..., D) to zero mean and unit variance."""
        return (values - self.mean) / self.scale

    def denormalize(self, values: Floats) -> Floats:
        """Inverse of :meth:`normalize`."""
        return values * self.scale + self.mean


@dataclass(frozen=True)
class Motion:
    """Motion of a face over time, in raw (not normalised) units."""

    values: Floats  # (T, D)
    space: MotionSpace

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != self.space.size:
            raise InputError(
                f"motion has shape {self.values.shape}; the {self.space.name} space needs "
                f"(T, {self.space.size})"
            )

    def __len__(self) -> int:
        return len(self.values)

    def require_space(self, space: MotionSpace) -> None:
        """Raise :class:`InputError` unless this is motion of a renderer's space."""
        if self.space.groups != space.groups or self.space.name != space.name:
            raise InputError(
                f"this is motion of the {self.space.name} space; "
                f"the renderer needs the {space.name} space it was made for"
            )

    def part(self, name: str) -> Floats:
        """View (T, size) of one named part, see :meth:`MotionSpace.slice`."""
        return self.values[:, self.space.slice(name)]


@dataclass(frozen=True)
class Portrait:
    """One face of one picture: the identity and the texture.

    Landmarks are in pixels; ``landmarks`` of the whole image, ``crop_landmarks`` of the square crop
    around the head, on which rendering takes place. ``crop_from_image`` maps homogeneous image
    points to crop points.
    """

    image: Picture  # (H, W, 3)
    landmarks: NDArray[np.float64]  # (478, 3)
    crop_image: Picture  # (S, S, 3)
    crop_from_image: NDArray[np.float64]  # (2, 3)
    crop_landmarks: NDArray[np.float64]  # (478, 3)
    person_mask: Floats  # (S, S) in 0..1, on the crop
    pose: Similarity
    """canonical -> crop pixels"""
    canonical_keypoints: NDArray[np.float64]
    """(478, 3) pose-free face as photographed, canonical units"""
    neutral_keypoints: NDArray[np.float64]
    """(478, 3) the same with the mouth closed"""

    @property
    def identity(self) -> Floats:
        """(63,) canonical coordinates of 21 points, what the motion model is told of the face."""
        return identity_vector(self.neutral_keypoints)


class ImplicitFace(NamedTuple):
    """A face as the motion extractor of the neural renderer sees it."""

    canonical_keypoints: Floats
    """(21, 3) implicit key points without pose and expression: the identity"""
    motion: Floats
    """(70,) raw motion of the neural space: expression (63, key-point-major), scale, translation
    (x, y, z), pitch, yaw, roll in degrees"""


@dataclass(frozen=True)
class NeuralPortrait:
    """One face of one picture, as the neural renderer needs it.

    ``crop_from_image`` maps image points to the points of the square crop around the face, which
    may be turned. The renderer draws the crop and pastes it back.
    """

    image: Picture  # (H, W, 3)
    landmarks: NDArray[np.float64]  # (478, 3) pixels of the image
    crop_image: Picture  # (512, 512, 3)
    crop_from_image: NDArray[np.float64]  # (2, 3)
    face: ImplicitFace

    @property
    def identity(self) -> Floats:
        """(63,) raw canonical key points, what the published motion model is told of the face."""
        return self.face.canonical_keypoints.reshape(-1)


@dataclass(frozen=True)
class Speech:
    """A stretch of speech on the 25 fps grid."""

    features: Floats  # (T, F)
    activity: Floats
    """(T,) in 0..1: 0 is silence, 1 is somebody speaking"""
    phones: NDArray[np.int8] | None = None
    """(T, 2) classes at 50 Hz where the words are known, see :mod:`moda.phones`;
    :data:`UNKNOWN_PHONE` elsewhere"""
    closure: Floats | None = None
    """(T,) in 0..1: how surely the lips are closed for a sound"""
    loudness: Floats | None = None
    """(T,) in nats above silence, relative to the level of the recording"""

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, frames: slice) -> Speech:
        """A part of the stretch."""
        parts = (self.features, self.activity, self.phones, self.closure, self.loudness)
        return Speech(*(None if part is None else part[frames] for part in parts))  # type: ignore[arg-type]


class HeardFrame(NamedTuple):
    """One frame of sound that is still being spoken, told without what comes later."""

    samples: Floats  # (640,) at 16 kHz
    loudness: float
    """nats above silence, relative to the level of the voice"""
    active: NDArray[np.bool_]
    """(H,) whether each hop of the frame is loud enough for speech"""


class RecentSpeech(NamedTuple):
    """The last N frames that were heard, each as well as it is known by now."""

    features: Floats  # (N, F), zeros before the first frame
    loudness: Floats  # (N,) nats
    activity: Floats  # (N,) in 0..1
    num_pending: int
    """Frames at the end whose tokens are not known yet, and 0 in the features"""


class SpeechMemory(Protocol):
    """Hears sound frame by frame and remembers the last frames."""

    def hear(self, frame: HeardFrame) -> RecentSpeech:
        """Take the next frame."""
        ...

    def forget(self, num_frames: int) -> None:
        """The last frames were silence."""
        ...


class EmotionAt(NamedTuple):
    """From this time on, this emotion."""

    seconds: float
    emotion: str | None
    intensity: float = 1.0


@dataclass(frozen=True)
class Style:
    """How it is said: an emotion schedule (empty: none)."""

    schedule: tuple[EmotionAt, ...] = field(default=())

    def __post_init__(self) -> None:
        for entry in self.schedule:
            if entry.emotion is not None and entry.emotion not in EMOTIONS:
                raise InputError(
                    f"unknown emotion {entry.emotion!r}; choose one of {', '.join(EMOTIONS)}"
                )
            if not 0.0 <= entry.intensity <= 1.0:
                raise InputError(f"emotion intensity {entry.intensity} is outside 0..1")
            if not (entry.seconds >= 0.0 and np.isfinite(entry.seconds)):
                raise InputError(f"emotion time {entry.seconds} s must be 0 or later")

    def at(self, seconds: float) -> EmotionAt:
        """The entry in force at a time; ``EmotionAt(0, None, 0)`` where there is none."""
        current = EmotionAt(0.0, None, 0.0)
        for entry in sorted(self.schedule, key=lambda entry: entry.seconds):
            if entry.seconds <= seconds + 1e-9:
                current = entry
        return current


class Background(NamedTuple):
    """What takes the place of the photograph behind the person."""

    colour: tuple[int, int, int] | None
    """RGB; None is nothing: frames are transparent there."""


class Renderer(Protocol):
    """Portrait and motion to pictures. One renderer object belongs to one portrait."""

    @property
    def space(self) -> MotionSpace: ...

    @property
    def frame_size(self) -> tuple[int, int]:
        """(width, height) of the frames, both even."""
        ...

    def render(self, motion: Motion) -> Iterator[Picture]:
        """Yield one frame (H, W, 3) per row of ``motion``, in order, as it is asked for.

        A renderer that was made for a transparent background yields (H, W, 4).
        """
        ...


Metadata = Mapping[str, str]
