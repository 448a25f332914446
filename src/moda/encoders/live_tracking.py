"""A face that is being filmed to motion, picture by picture, without waiting for later ones.

What a film tells of a person at once (neutral face, resting pose, open eyes) is learned here from
the first pictures that show the face; fit and motion are those of :mod:`moda.encoders.tracking`.
The noise of the tracker is taken out by One Euro filters (G. Casiez et al., 2012): slow movements
are smoothed much, quick ones hardly at all and without delay.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from moda.encoders.face import FaceModels, FaceTracker
from moda.encoders.tracking import (
    ExpressionFit,
    RestPose,
    blink_from_openness,
    estimate_neutral,
    gaze_offsets,
    lid_openness,
    mouth_width_ratio,
    open_lids,
    relative_pose,
    remove_pose,
    rest_pose,
)
from moda.structures import Floats, MotionSpace, Picture
from moda.structures.landmarks import NUM_SURFACE, Array, lip_gaps

LEARNED_PICTURES = 15
"""Pictures with a face from which the person at rest is learned."""
SLOWEST_HZ, RESPONSE = 1.5, 1.5
"""A One Euro filter: cutoff of what stands still, and what a standard deviation per second adds."""
MOUTH_SLOWEST_HZ = 8.0
"""The same of the mouth: a closure that lasts for one picture must be seen."""
SPEED_HZ = 1.0
"""Cutoff of the speeds that a filter goes by."""

FaceState = Literal["absent", "learning", "followed"]


class SeenFace(NamedTuple):
    """What one picture shows."""

    state: FaceState
    motion: Floats | None
    """(D,) raw motion, while the face is followed"""
    num_others: int
    """Faces beside the followed one when it was found"""


class RestingPerson(NamedTuple):
    """A person at rest, as the camera sees them."""

    face: Array
    """(478, 3) that poses are fitted on, canonical units"""
    neutral: Array  # (478, 3)
    pose: RestPose
    gaze: Array  # (2,)
    opened: Array
    """(2,) usual opening of the eyes"""


def learn_rest(landmarks: Array, canonical: Array) -> RestingPerson:
    """The person in pictures whose landmarks are (T, 478, 3) px."""
    person = np.median(remove_pose(landmarks, canonical)[0], axis=0)
    faces, *fits = remove_pose(landmarks, person)
    openness = lid_openness(faces)
    return RestingPerson(
        person,
        estimate_neutral(faces, openness.mean(1)),
        rest_pose(*fits),
        np.median(gaze_offsets(faces), 0),
        open_lids(openness),
    )


class LiveTracker:
    """Follows the face in front of a camera.

    Args:
        models: the face networks.
        space: of the mesh.
    """

    def __init__(self, models: FaceModels, space: MotionSpace) -> None:
        assert space.canonical_face is not None
        self._tracker = FaceTracker(models)
        self._space = space
        self._canonical = space.canonical_face.astype(np.float64)
        self._fit = ExpressionFit(space)
        self._learned: list[Array] = []
        self._rest: RestingPerson | None = None
        self._filter = OneEuroFilter(space)

    def learn_again(self) -> None:
        """Another person, or another camera: what is at rest is learned anew."""
        self._tracker.reset()
        self._learned, self._rest = [], None
        self._filter.reset()

    def see(self, picture: Picture, seconds: float) -> SeenFace:
        """Look at the next picture (H, W, 3), which was taken ``seconds`` after the last."""
        face = self._tracker.track(picture)
        others = self._tracker.num_others
        if face is None:
            self._filter.reset()
            return SeenFace("absent", None, others)
        landmarks = face.points.astype(np.float64)[None]
        if self._rest is None:
            self._learned.append(landmarks[0])
            if len(self._learned) < LEARNED_PICTURES:
                return SeenFace("learning", None, others)
            self._rest = learn_rest(np.stack(self._learned), self._canonical)
            self._learned = []
        row = self._motion(landmarks, self._rest)
        return SeenFace("followed", self._filter(row, seconds), others)

    def _motion(self, landmarks: Array, rest: RestingPerson) -> Floats:
        """(D,) of one face (1, 478, 3), not smoothed."""
        faces, scales, rotations, translations = remove_pose(landmarks, rest.face)
        ratio = mouth_width_ratio(rest.neutral, self._canonical)
        offsets = (faces - rest.neutral)[:, :NUM_SURFACE] / ratio
        expression = self._fit(offsets, lip_gaps(faces) / ratio)[0]
        row = np.zeros(self._space.size, np.float32)
        row[: len(expression)] = expression
        row[self._space.slice("blink")] = blink_from_openness(lid_openness(faces), rest.opened)[0]
        row[self._space.slice("gaze")] = gaze_offsets(faces)[0] - rest.gaze
        row[self._space.slice("pose")] = relative_pose(scales, rotations, translations, rest.pose)[
            0
        ]
        return row


class OneEuroFilter:
    """Smooths rows of motion that come one after the other; lids are left as they are."""

    def __init__(self, space: MotionSpace) -> None:
        self._spread = np.maximum(space.std, 1e-6)
        self._slowest = np.full(space.size, SLOWEST_HZ, np.float32)
        self._slowest[space.slice("mouth")] = MOUTH_SLOWEST_HZ
        self._slowest[space.slice("blink")] = np.inf
        self.reset()

    def reset(self) -> None:
        """The next row comes after nothing."""
        self._row: Floats | None = None
        self._speed = np.zeros_like(self._slowest)

    def __call__(self, row: Floats, seconds: float) -> Floats:
        """The row (D,), smoothed; ``seconds`` after the last one."""
        if self._row is None:
            self._row = row
            return row
        speed = (row - self._row) / self._spread / seconds
        self._speed += _share(SPEED_HZ, seconds) * (speed - self._speed)
        cutoff = self._slowest + RESPONSE * np.abs(self._speed)
        self._row = self._row + _share(cutoff, seconds) * (row - self._row)
        return self._row


def _share(cutoff_hz: Array | Floats | float, seconds: float) -> Floats:
    """How much of the way to a new value a low-pass of first order goes."""
    time = 1.0 / (2.0 * np.pi * cutoff_hz)
    share: Floats = np.asarray(seconds / (seconds + time), np.float32)
    return share
