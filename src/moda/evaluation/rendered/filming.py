"""Finished videos of a model, and what a viewer sees of the face in them.

Everything is made as ``moda generate`` makes it, by :class:`moda.pipeline.TalkingHead`, and tracked
again: what rules set in the motion and a renderer loses cannot be taken for what is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.io import wavfile

from moda.encoders.face import FaceModels
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.encoders.tracking import track_frames
from moda.evaluation.videos.motion import head_angles
from moda.files import ScratchFolder
from moda.options import FrameOptions
from moda.phones import LABELS_PER_SECOND, Labels, Phone, PhoneSegment
from moda.pipeline import TalkingHead, TalkingVideo
from moda.structures import Floats, Motion, Picture
from moda.structures.landmarks import Array, lip_gap, lip_width
from moda.systems.embedded import EmbeddedSystem
from moda.weights.checkpoints import Checkpoint

FILM_SIZE_PX = 320
"""Of the square around the head: as good for the tracker as larger ones, and quick."""


class SeenFace(NamedTuple):
    """What is seen of a face over T frames at 25 fps."""

    gap: Array
    """(T,) between the lips, in units of the outer-eye distance"""
    width: Array
    """(T,) of the mouth, in the same unit"""
    angles: Array
    """(T, 3) pitch, yaw and roll of the head in degrees, about its median place"""

    def __len__(self) -> int:
        return len(self.gap)

    def first(self, num_frames: int) -> SeenFace:
        """The first frames alone."""
        return SeenFace(*(values[:num_frames] for values in self))


def see_face(landmarks: Floats | Array) -> SeenFace:
    """What landmarks (T, 478, 3) in pixels show."""
    points = landmarks.astype(np.float64)
    return SeenFace(
        lip_gap(points), lip_width(points), head_angles(points, np.median(points, axis=0))
    )


def watch(frames: Iterable[Picture], models: FaceModels) -> SeenFace:
    """What frames at 25 fps show, tracked.

    Raises:
        FaceError: they show no face.
    """
    return see_face(track_frames(frames, models).landmarks)


class Stage:
    """Lets a checkpoint move one portrait, and watches."""

    def __init__(self, checkpoint: Checkpoint, portrait: Picture, models: FaceModels) -> None:
        self._models = models
        self._portrait = portrait
        self._head = TalkingHead(EmbeddedSystem(checkpoint, models))

    def perform(
        self,
        samples: Floats,
        *,
        seed: int | None = None,
        phones: Sequence[PhoneSegment] = (),
    ) -> SeenFace:
        """What is seen in the video of mono 16 kHz samples (N,).

        Without a ``seed`` it is the video that a user gets who says none.

        Raises:
            FaceError: the video shows no face.
        """
        with ScratchFolder("work") as folder:
            return watch(self._video(folder, samples, seed, phones).frames(), self._models)

    def motion(self, samples: Floats, *, seed: int) -> Motion:
        """The motion of such a video."""
        with ScratchFolder("work") as folder:
            stretches = self._video(folder, samples, seed, ()).motion()
            return Motion(np.concatenate([part.values for part in stretches]), self._head.space)

    def show(self, motion: Motion) -> SeenFace:
        """What is seen of a motion on the portrait.

        Raises:
            FaceError: the video shows no face.
        """
        options = FrameOptions(FILM_SIZE_PX, full_frame=False)
        actor = self._head.system.prepare(self._portrait, options)
        return watch(actor.renderer.render(motion), self._models)

    def _video(
        self, folder: Path, samples: Floats, seed: int | None, phones: Sequence[PhoneSegment]
    ) -> TalkingVideo:
        generate = partial(
            self._head.generate,
            self._portrait,
            write_wav(folder / "speech.wav", samples),
            phones=phones,
            size=FILM_SIZE_PX,
            full_frame=False,
        )
        return generate() if seed is None else generate(seed=seed)


def write_wav(path: Path, samples: Floats) -> Path:
    """Write mono 16 kHz samples (N,) in -1..1 as 16-bit sound."""
    values = np.clip(np.round(32768.0 * samples.astype(np.float64)), -32768, 32767)
    wavfile.write(path, SAMPLE_RATE_HZ, values.astype(np.int16))
    return path


def phone_segments(labels: Labels) -> tuple[PhoneSegment, ...]:
    """Labels (N,) at 100 Hz as what a user would say of the phones; unknown ones are left out."""
    borders = np.flatnonzero(np.diff(labels)) + 1
    edges = [0, *borders.tolist(), len(labels)]
    return tuple(
        PhoneSegment(
            Phone(label).name.lower(),
            start / LABELS_PER_SECOND,
            stop / LABELS_PER_SECOND,
            (Phone(label),),
        )
        for start, stop in pairwise(edges)
        if stop > start and (label := int(labels[start])) >= 0
    )
