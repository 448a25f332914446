"""Faces in films: every shot is seen by itself, whoever comes and goes."""

from __future__ import annotations

import numpy as np
import pytest

from moda.encoders.face import FaceModels, FaceTracker
from moda.encoders.footage import FilmFaces, meet_lips, track_shots
from moda.encoders.regions import resize, shrink_to
from moda.media import read_image
from moda.structures import MotionSpace, Picture
from moda.structures.landmarks import INNER_LIP_LOWER, INNER_LIP_UPPER, eye_distance
from paths import EXAMPLES


@pytest.fixture(scope="module")
def models() -> FaceModels:
    return FaceModels()


@pytest.fixture(scope="module")
def photograph() -> Picture:
    return shrink_to(read_image(EXAMPLES / "portrait.jpg"), 288)


def pan(photograph: Picture, lefts: list[int], *, zoom: float = 1.0) -> list[Picture]:
    """A window of 3/4 of the width of a photograph, over zoom, that begins at these columns."""
    height, width = photograph.shape[0] * 3 // 4, photograph.shape[1] * 3 // 4
    low, side = int(height / zoom), int(width / zoom)
    return [
        resize(np.ascontiguousarray(photograph[:low, left : left + side]), (width, height))
        for left in lefts
    ]


@pytest.fixture(scope="module")
def wide(photograph: Picture) -> list[Picture]:
    return pan(photograph, list(range(20, 32)))


@pytest.fixture(scope="module")
def near(photograph: Picture) -> list[Picture]:
    return pan(photograph, list(range(90, 60, -3)), zoom=1.3)


@pytest.fixture(scope="module")
def follow(models: FaceModels, space: MotionSpace):
    def of(film: list[Picture], number: int | None = None) -> FilmFaces:
        return track_shots(film, 25.0, models, space, number)

    return of


def test_nothing_leaks_across_a_cut(follow, wide: list[Picture], near: list[Picture]) -> None:
    film = follow([*wide, *near, *wide[::-1]])
    assert [(shot.start, shot.stop) for shot in film.shots] == [(0, 12), (12, 22), (22, 34)]
    assert film.num_hidden == 0
    for shot, part in zip(film.shots, (wide, near, wide[::-1]), strict=True):
        (alone,) = follow(part).shots
        assert shot.reference == alone.reference
        for name in ("landmarks", "share", "neutral", "person"):
            np.testing.assert_array_equal(getattr(shot, name), getattr(alone, name))
    sizes = [eye_distance(shot.landmarks).mean() for shot in film.shots]
    assert sizes[1] > 1.2 * sizes[0]


def test_a_dissolve_parts_shots_too(follow, wide: list[Picture], near: list[Picture]) -> None:
    mixed = [
        ((1 - share) * wide[-1] + share * near[0]).astype(np.uint8)
        for share in np.linspace(0, 1, 8)[1:-1]
    ]
    film = follow([*wide, *mixed, *near])
    first, last = film.shots
    assert 12 <= first.stop <= last.start <= 18
    for shot in film.shots:
        sizes = eye_distance(shot.landmarks)
        assert np.ptp(sizes) < 0.15 * sizes.mean()


@pytest.mark.parametrize(("duration", "furthest", "num_shots"), [(10, 180, 1), (40, 288, 2)])
def test_who_leaves_and_returns(
    follow, photograph: Picture, duration: int, furthest: int, num_shots: int
) -> None:
    """The camera pans away from the face within so many pictures, and back."""
    scene = np.hstack([photograph, np.full_like(photograph, 120)])
    away = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, duration))
    lefts = [40] * 6 + [int(40 + (furthest - 40) * share) for share in away]
    lefts += lefts[::-1]
    film = follow(pan(scene, lefts))
    seen = np.zeros(film.num_frames)
    for shot in film.shots:
        seen[shot.start : shot.stop] = shot.share
    assert len(film.shots) == num_shots
    assert seen[len(lefts) // 2] == 0.0
    assert seen[:6].min() == seen[-6:].min() == 1.0
    assert np.abs(np.diff(seen)).max() <= 0.26, "new lips fade"
    assert film.num_hidden == (seen == 0.0).sum()


def test_who_leaves_is_not_mistaken_for_who_stays(models: FaceModels, photograph: Picture) -> None:
    """The face to the left is hidden for a while, the other one is there all the time."""
    width = photograph.shape[1]
    both = [np.hstack([photograph, photograph[:, ::-1]]) for _ in range(14)]
    for picture in both[5:9]:
        picture[:, :width] = 128
    tracker = FaceTracker(models, 1)
    found = [tracker.track(picture) for picture in both]
    assert [face is not None for face in found] == [True] * 5 + [False] * 4 + [True] * 5
    assert all(face is None or face.region.x < width for face in found)


def test_which_of_two_faces(follow, photograph: Picture) -> None:
    small = shrink_to(photograph, 170)
    narrow = np.zeros((photograph.shape[0], small.shape[1], 3), np.uint8)
    narrow[: small.shape[0]] = small
    film = [np.hstack([narrow, photograph])] * 4
    largest = follow(film)
    assert largest.choices == {0: (2, 2)}
    assert follow(film, 2).shots[0].landmarks[0, 1, 0] == largest.shots[0].landmarks[0, 1, 0]
    (left,) = follow(film, 1).shots
    assert left.landmarks[..., 0].max() < narrow.shape[1]
    assert follow(film, 3).shots == ()


def test_lips_meet_where_the_tracker_leaves_a_gap() -> None:
    """Gaps of 0.02 (closed), 0.03 and 0.1 of the eye distance, 200 px, in a trembling mouth."""
    gaps = np.array([0.02] * 8 + [0.03, 0.1])
    tracked = np.zeros((10, 478, 3))
    tracked[:, 263, 0] = 200.0
    upper, lower = list(INNER_LIP_UPPER[1:-1]), list(INNER_LIP_LOWER[1:-1])
    tracked[:, upper, 1] = 300.0 - 100.0 * gaps[:, None]
    tracked[:, lower, 1] = 300.0 + 100.0 * gaps[:, None]
    smooth = tracked.copy()
    smooth[:, [*upper, *lower], 1] = 305.0
    met = meet_lips(smooth, tracked, np.ones(10, bool))
    found = (met[:, lower, 1] - met[:, upper, 1]) / 200.0
    np.testing.assert_allclose(found[:8], 0.0, atol=1e-9)
    np.testing.assert_allclose(found[8], 0.01 / 0.6)
    np.testing.assert_allclose(found[9], 0.1)
    np.testing.assert_allclose((met[:, lower, 1] + met[:, upper, 1]) / 2, 305.0)
    untouched = [point for point in range(478) if point not in {*upper, *lower}]
    np.testing.assert_array_equal(met[:, untouched], smooth[:, untouched])
    never_closed = tracked.copy()
    never_closed[:, lower, 1] += 20.0
    met = meet_lips(never_closed, never_closed, np.ones(10, bool))
    np.testing.assert_allclose(met, never_closed)
