"""The face of a film, shot by shot, as new lips need it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.encoders.curves import smooth
from moda.encoders.face import FaceLandmarks, FaceModels, FaceTracker
from moda.encoders.portrait import close_mouth
from moda.encoders.regions import turn_points
from moda.encoders.shots import mark_cuts
from moda.encoders.tracking import estimate_neutral, lid_openness, remove_pose
from moda.structures import Floats, MotionSpace, Picture
from moda.structures.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    NUM_LANDMARKS,
    OUTER_EYE_CORNERS,
    Array,
    eased_gap,
    eye_distance,
    lip_gap,
)

SMOOTHING_SECONDS = 0.2
"""Of the landmarks, over time: their noise would make the mouth tremble."""
CLOSED_PERCENTILE, LARGEST_CLOSED_GAP = 5.0, 0.03
"""Trackers see a gap between closed lips. It is this percentile of a shot's gaps, unless that is
larger: then the lips never meet, and nothing is known."""
NO_GAP = 1e-9
RELEASE = 2.5
"""Gaps of so many times the closed one are right."""
MIN_FRAMES_WITH_FACE = 3
FADE_FRAMES = 4
"""New lips come and go over this many frames where the face is lost and found."""
LONGEST_GAP_SECONDS = 0.5
"""Who is away for longer may be another person afterwards."""
JUMP, JUMP_STANDS_OUT = 0.3, 3.0
"""A face that moves so far from one frame to the next, in eye distances and over what is usual
before and after, is another one: shots were dissolved."""

Flags = NDArray[np.bool_]


class Shot(NamedTuple):
    """One face from where it comes to where it leaves, or to the next cut; T frames.

    Landmarks are those of pictures that have been turned so that the face is upright.
    """

    start: int
    """Number of its first frame in the film"""
    quarter_turns: int
    """Of ``np.rot90``, after which the face is upright"""
    landmarks: Array  # (T, 478, 3) px, smooth, interpolated where it was not found
    share: Floats
    """(T,) 0..1 how much of the new lips is shown: 0 where there is no face"""
    neutral: Array  # (478, 3) canonical, with a mouth at rest
    reference: int
    """A frame of the shot with a closed mouth, seen from the front"""
    person: Array  # (478, 3) canonical, on which poses are fitted

    @property
    def stop(self) -> int:
        """Number of the film's frame after the last one."""
        return self.start + len(self.share)


class Choice(NamedTuple):
    """Which face of a picture was taken."""

    number: int
    """From left to right from 1"""
    num_faces: int
    """In the picture"""


class FilmFaces(NamedTuple):
    """All shots of a film that show the face."""

    shots: tuple[Shot, ...]
    num_frames: int
    """Of the film"""
    choices: dict[int, Choice]
    """Which face was taken where none was chosen, in frames that first show it after a cut."""

    @property
    def num_hidden(self) -> int:
        """Frames without new lips."""
        return self.num_frames - sum(int((shot.share > 0.0).sum()) for shot in self.shots)


def track_shots(
    pictures: Iterable[Picture],
    frames_per_second: float,
    models: FaceModels,
    space: MotionSpace,
    number: int | None = None,
) -> FilmFaces:
    """Follow a face through each shot of a film and find out what it looks like at rest.

    Args:
        pictures: All of the film, of one size.
        frames_per_second: Of the pictures.
        models: The networks that see faces.
        space: The mesh motion space.
        number: Which face of each shot, from left to right from 1; None is the largest.
    """
    tracker = FaceTracker(models, number)
    missing = np.full((NUM_LANDMARKS, 3), np.nan, np.float32)
    found, cuts, size = [], [0], (0, 0)
    choices: dict[int, Choice] = {}
    is_new = True
    for index, (picture, begins_shot) in enumerate(mark_cuts(pictures, lambda same: same)):
        if begins_shot:
            tracker.reset()
            cuts.append(index)
            is_new = True
        seen = tracker.track(picture)
        if seen is not None and is_new and number is None:
            choices[index] = _choice(picture, seen, models)
        is_new = is_new and seen is None
        found.append(missing if seen is None else seen.points.astype(np.float32))
        size = picture.shape[1], picture.shape[0]
    points = np.stack(found).astype(np.float64) if found else np.zeros((0, NUM_LANDMARKS, 3))
    shots: list[Shot] = []
    for start, stop in zip(cuts, [*cuts[1:], len(points)], strict=True):
        for first, face in _appearances(points[start:stop], frames_per_second):
            shots.append(_see_shot(start + first, face, size, frames_per_second, space))
    return FilmFaces(tuple(shots), len(points), choices)


def _choice(picture: Picture, taken: FaceLandmarks, models: FaceModels) -> Choice:
    """Which of all faces in a picture, small ones too, is the one that was taken."""
    places = sorted(face.region.x for face in models.find_faces(picture, search="all"))
    away = [abs(place - taken.region.x) for place in places] or [0.0]
    return Choice(1 + int(np.argmin(away)), len(away))


class Appearance(NamedTuple):
    """One face from where it comes to where it leaves."""

    points: Array  # (T, 478, 3) px
    seen: Flags
    """(T,) where points are known"""
    share: Floats  # (T,) as in a shot


def _appearances(points: Array, frames_per_second: float) -> Iterator[tuple[int, Appearance]]:
    """What is seen between two cuts (T, 478, 3), each after the number of its first frame."""
    seen = np.isfinite(points[:, 0, 0])
    jumps = _jumps(points, seen)
    seen[jumps] = False
    share = _shares(seen)
    known = np.flatnonzero(seen)
    longest = LONGEST_GAP_SECONDS * frames_per_second
    ends = [
        index
        for index in range(1, len(known))
        if known[index] - known[index - 1] > longest
        or np.any((jumps > known[index - 1]) & (jumps < known[index]))
    ]
    for part in np.split(known, ends):
        if len(part) >= MIN_FRAMES_WITH_FACE:
            frames = slice(part[0], part[-1] + 1)
            yield int(part[0]), Appearance(points[frames], seen[frames], share[frames])


def _jumps(points: Array, seen: Flags) -> NDArray[np.intp]:
    """Frames in which the face is suddenly elsewhere."""
    known = np.flatnonzero(seen)
    if len(known) < MIN_FRAMES_WITH_FACE:
        return known[:0]
    faces = points[known]
    moved = np.linalg.norm(np.diff(faces[..., :2], axis=0), axis=-1).mean(1)
    moved /= eye_distance(faces[1:]) * np.diff(known)
    sides = [(moved[max(0, n - 4) : n], moved[n + 1 : n + 5]) for n in range(len(moved))]
    usual = np.array([max(np.median(side) for side in pair if len(side)) for pair in sides])
    return known[1:][(moved > JUMP) & (moved > JUMP_STANDS_OUT * usual)]


def _see_shot(
    start: int,
    face: Appearance,
    size: tuple[int, int],
    frames_per_second: float,
    space: MotionSpace,
) -> Shot:
    """What the face of a shot looks like, in pictures of a size (width, height)."""
    seen = face.seen
    right, left = np.median(face.points[seen][:, list(OUTER_EYE_CORNERS), :2], axis=0)
    roll = np.degrees(np.arctan2(*(left - right)[::-1]))
    quarter_turns = round(float(roll) / 90.0) % 4
    turned = face.points.copy()
    for points in turned:
        points[:] = turn_points(points, size, quarter_turns)
    tracked = _bridge(turned, seen)
    landmarks = meet_lips(_smooth(tracked, frames_per_second), tracked, seen)
    assert space.canonical_face is not None
    canonical = space.canonical_face.astype(np.float64)
    person = np.median(remove_pose(landmarks[seen], canonical)[0], axis=0)
    faces, _, rotations, _ = remove_pose(landmarks[seen], person)
    neutral = close_mouth(estimate_neutral(faces, lid_openness(faces).mean(1)), space)
    away = 1.0 - rotations[:, 2, 2]
    reference = int(np.flatnonzero(seen)[np.argmin(lip_gap(faces) + 0.2 * away)])
    return Shot(start, quarter_turns, landmarks, face.share, neutral, reference, person)


def _bridge(points: Array, seen: Flags) -> Array:
    """Landmarks (T, 478, 3) interpolated on lines where the face was not seen."""
    frames = np.arange(len(points))
    flat = points.reshape(len(points), -1).copy()
    known = flat[seen]
    places = np.interp(frames, frames[seen], np.arange(len(known)))
    before = np.floor(places).astype(int)
    after = np.minimum(before + 1, len(known) - 1)
    part = (places - before)[:, None]
    bridged: Array = known[before] * (1.0 - part) + known[after] * part
    return bridged.reshape(points.shape)


def _smooth(landmarks: Array, frames_per_second: float) -> Array:
    window = round(SMOOTHING_SECONDS * frames_per_second) | 1
    if window < 5 or len(landmarks) < window:
        return landmarks
    return smooth(landmarks, window)


def meet_lips(smooth: Array, tracked: Array, seen: Flags) -> Array:
    """Open the lips of smooth landmarks as far as they are, and close them where they touch.

    Lips open faster than landmarks may tremble, so their distance is that of the single frame,
    less the gap that the tracker sees between closed lips.

    Args:
        smooth: (T, 478, 3) px.
        tracked: (T, 478, 3) px as they were found.
        seen: (T,) frames that tell how the tracker sees this mouth.
    """
    upper, lower = list(INNER_LIP_UPPER[1:-1]), list(INNER_LIP_LOWER[1:-1])
    apart = tracked[:, lower] - tracked[:, upper]
    gaps = np.linalg.norm(apart[..., :2], axis=-1) / eye_distance(tracked)[:, None]
    closed = np.percentile(gaps[seen], CLOSED_PERCENTILE, axis=0)
    closed = np.where(closed > LARGEST_CLOSED_GAP, 0.0, closed) + NO_GAP
    wanted = eased_gap(gaps, closed, RELEASE * closed)
    half = 0.5 * apart * (wanted / np.maximum(gaps, NO_GAP))[..., None]
    middle = 0.5 * (smooth[:, upper] + smooth[:, lower])
    met = smooth.copy()
    met[:, upper], met[:, lower] = middle - half, middle + half
    return met


def _shares(seen: Flags) -> Floats:
    """(T,) how much of the new lips is shown, fading in and out around frames without a face."""
    unseen = np.flatnonzero(~seen)
    if not len(unseen):
        return np.ones(len(seen), np.float32)
    frames = np.arange(len(seen))
    distance = np.abs(frames[:, None] - unseen[None]).min(1)
    return np.clip(distance / FADE_FRAMES, 0.0, 1.0).astype(np.float32)
