"""Offsets of the emotions: what actors show, what anatomy asks for, and what must not change."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from moda.data.clips import PreparedClip
from moda.data.mesh_space import mirrored_indices
from moda.encoders.tracking import LandmarkTrack
from moda.errors import ConfigError
from moda.structures import EMOTIONS, Floats, MotionSpace
from moda.structures.landmarks import Array, lip_gaps, rotation_from_euler
from moda.training.fits.emotions import (
    ANATOMY,
    NAMED_POINTS,
    acted_offsets,
    emotion_means,
    shrunk_mean,
    solve_expression,
)

RIGHT_CORNER, LEFT_CORNER = 61, 291
RIGHT_INNER_BROW, LEFT_INNER_BROW = 107, 336


@pytest.fixture(scope="module")
def table(space: MotionSpace) -> Floats:
    return emotion_means([], space)


def moved(space: MotionSpace, row: Array | Floats) -> Array:
    """Vertex offsets (468, 3) of a motion row in hundredths of the outer-eye distance."""
    assert space.basis is not None
    size = len(space.basis)
    return 100.0 * np.tensordot(row[:size].astype(np.float64), space.basis.astype(np.float64), 1)


def clip(space: MotionSpace, speaker: int, emotion: str, offset: Array) -> PreparedClip:
    """Somebody who says the same in every clip, with an offset of the expression (B,)."""
    assert space.canonical_face is not None
    assert space.basis is not None
    speech = 0.3 * np.random.default_rng(speaker).standard_normal((40, len(space.basis)))
    speech[:8] = 0.0
    faces = np.repeat(space.canonical_face[None].astype(np.float64), len(speech), 0)
    faces[:, :468] += np.tensordot(speech + offset, space.basis.astype(np.float64), 1)
    turned = 100.0 * faces @ rotation_from_euler(3.0 * speaker, -2.0, 1.0).T + 200.0
    track = LandmarkTrack(turned.astype(np.float32), np.ones(len(speech), bool))
    name = f"{speaker}-{emotion}"
    return PreparedClip(name, str(speaker), emotion, track, np.zeros(0, np.int16))


def smile(space: MotionSpace) -> Array:
    """An expression that actors may show: the second component of the mouth, the first of brows."""
    offset = np.zeros(space.slice("cheeks").stop)
    offset[1], offset[space.slice("brows").start] = 1.5, 1.0
    return offset


def test_actors_that_agree_are_believed(space: MotionSpace) -> None:
    offset = smile(space)
    clips = [clip(space, actor, "neutral", 0.0 * offset) for actor in range(3)]
    clips += [
        clip(space, actor, "happy", share * offset) for actor, share in enumerate((0.9, 1.0, 1.1))
    ]
    clips.append(clip(space, 9, "angry", offset))  # has no neutral clip to be compared with
    found = acted_offsets(clips, space)
    assert set(found) == {"happy"}
    np.testing.assert_allclose(moved(space, found["happy"]), moved(space, offset), atol=0.9)


def test_actors_that_contradict_each_other_are_not(space: MotionSpace) -> None:
    offset = smile(space)
    clips = [clip(space, actor, "neutral", 0.0 * offset) for actor in range(2)]
    clips += [clip(space, actor, "sad", sign * offset) for actor, sign in enumerate((1.0, -0.9))]
    assert np.abs(moved(space, acted_offsets(clips, space)["sad"])).max() < 0.1


def test_shrinking_in_closed_form() -> None:
    same = np.array([[3.0, 4.0], [3.0, 4.0]])
    np.testing.assert_allclose(shrunk_mean(same), [3.0, 4.0])
    np.testing.assert_allclose(shrunk_mean(same[:1]), [1.5, 2.0])
    spread = np.array([[2.0, 4.0], [4.0, 4.0]])  # variance 2, of the mean 1, squared mean 25
    np.testing.assert_allclose(shrunk_mean(spread), np.array([3.0, 4.0]) * 24 / 25)


def test_acting_reaches_the_points_that_anatomy_leaves_free(space: MotionSpace) -> None:
    """Happiness has no unit of the brows; there the actors decide."""
    lifted = smile(space)
    lifted[: space.slice("brows").start] = 0.0
    shown = moved(space, solve_expression(ANATOMY["happy"], lifted, space))
    alone = moved(space, solve_expression(ANATOMY["happy"], None, space))
    wanted = moved(space, lifted)[LEFT_INNER_BROW, 1]
    assert shown[LEFT_INNER_BROW, 1] == pytest.approx(wanted, rel=0.1)
    assert abs(alone[LEFT_INNER_BROW, 1]) < 0.2
    assert shown[LEFT_CORNER, 1] == pytest.approx(alone[LEFT_CORNER, 1], abs=0.5)


def test_named_points_go_where_the_units_say(space: MotionSpace, table: Floats) -> None:
    offset = {emotion: moved(space, row) for emotion, row in zip(EMOTIONS, table, strict=False)}
    for corner, outward in ((RIGHT_CORNER, -1), (LEFT_CORNER, 1)):
        assert offset["happy"][corner, 1] < -3
        assert outward * offset["happy"][corner, 0] > 5
        assert 1.5 < offset["sad"][corner, 1] < 4
        assert outward * offset["fear"][corner, 0] > 4
        assert outward * offset["angry"][corner, 0] < -1.5
    for brow, outward in ((RIGHT_INNER_BROW, -1), (LEFT_INNER_BROW, 1)):
        assert offset["angry"][brow, 1] > 3
        assert outward * offset["angry"][brow, 0] < -0.5
        assert offset["sad"][brow, 1] < -2
        assert offset["fear"][brow, 1] < -3
        assert offset["surprised"][brow, 1] < -5
    assert offset["disgusted"][0, 1] < -2  # upper lip
    assert offset["surprised"][152, 1] > 3  # chin
    assert offset["contempt"][LEFT_CORNER, 1] < offset["contempt"][RIGHT_CORNER, 1] - 2.5


def test_the_smile_and_the_sad_mouth_of_moda(space: MotionSpace, table: Floats) -> None:
    """Heights of the corners over the middle of the lips; its videos show .053 and .004."""
    heights = {}
    for emotion in ("happy", "sad"):
        offset = moved(space, table[EMOTIONS.index(emotion)])[:, 1]
        heights[emotion] = offset[[13, 14]].mean() - offset[[RIGHT_CORNER, LEFT_CORNER]].mean()
    assert heights["happy"] - heights["sad"] == pytest.approx(5.5, abs=1.5)


PARTED = {"happy": 3.5, "surprised": 4.5, "fear": 2.5, "disgusted": 2.1, "angry": 1.8}
"""Hundredths of the outer-eye distance; the other emotions part no lips."""


def test_lips_part_in_an_arc(space: MotionSpace, table: Floats) -> None:
    for emotion, row in zip(EMOTIONS, table, strict=False):
        gaps = lip_gaps(moved(space, row))
        assert gaps[4] == pytest.approx(PARTED.get(emotion, 0.0), abs=0.3)
        assert (gaps > -0.3).all()
        np.testing.assert_allclose(gaps, gaps[::-1], atol=0.3)
        assert gaps[0] <= 0.5 * gaps[4] + 0.3


def test_actors_do_not_decide_how_far_lips_part(space: MotionSpace) -> None:
    opened = smile(space)
    opened[0] = 1.5 * np.sign(lip_gaps(space.basis[0].astype(np.float64))[4])  # type: ignore[index]
    assert lip_gaps(moved(space, opened))[4] > 15
    solved = solve_expression(ANATOMY["surprised"], opened, space)
    assert lip_gaps(moved(space, solved))[4] == pytest.approx(PARTED["surprised"], abs=0.3)


def test_eyes_narrow_and_widen(space: MotionSpace, table: Floats) -> None:
    lids = dict(zip(EMOTIONS, table[:, space.slice("blink")].mean(1), strict=False))
    assert lids["happy"] > 0.2
    assert lids["surprised"] < -0.1
    assert lids["fear"] < -0.1
    assert 0.0 < lids["sad"] < 0.5 * lids["happy"]


def test_all_but_contempt_are_symmetric(space: MotionSpace, table: Floats) -> None:
    assert space.canonical_face is not None
    mirror = mirrored_indices(space.canonical_face.astype(np.float64))[:468]
    for emotion, row in zip(EMOTIONS, table, strict=False):
        offset = moved(space, row)
        difference = np.abs(offset[mirror] * [-1, 1, 1] - offset)[:, :2].max()
        assert difference < 0.6 if emotion != "contempt" else difference > 3.0
        assert (row[space.slice("roll")] == 0) == (emotion != "contempt")


def test_emotions_differ(space: MotionSpace, table: Floats) -> None:
    """Every two emotions have a named point two hundredths of the outer-eye distance apart."""
    points = [point for group in NAMED_POINTS.values() for point in group]
    offsets = [moved(space, row)[points, :2] for row in table[:-1]]
    for (one, first), (other, second) in combinations(zip(EMOTIONS, offsets, strict=True), 2):
        assert np.linalg.norm(first - second, axis=-1).max() > 2.0, (one, other)


def test_none_and_neutral_are_calm_and_the_rest_is_limited(
    space: MotionSpace, table: Floats
) -> None:
    assert table.shape == (9, space.size)
    assert table.dtype == np.float32
    assert not table[8].any()
    assert not table[EMOTIONS.index("neutral")].any()
    size = space.slice("cheeks").stop
    assert (np.abs(table[:, :size]) <= 4.001 * space.std[:size]).all()
    assert np.abs(table[:, space.slice("pose")]).max() <= 3.0
    lids = table[:, space.slice("blink")]
    assert lids.min() >= -0.2
    assert lids.max() < 0.4
    assert not table[:, space.slice("gaze")].any()


def test_a_space_without_faces_is_refused() -> None:
    zeros = np.zeros(70, np.float32)
    neural = MotionSpace("neural", (("expression", 63),), zeros, zeros + 1, "camera")
    with pytest.raises(ConfigError, match="mesh space"):
        emotion_means([], neural)
