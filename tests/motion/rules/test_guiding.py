"""Gaze, blink rate, lips only, driving videos: each changes what it should and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from moda.errors import InputError
from moda.motion.rules.controls import shape_motion
from moda.motion.rules.guiding import Guide, keep_mouth_only, mouth_columns
from moda.motion.rules.idle import BlinkRule
from moda.options import MotionAmounts, SpeakingOptions
from moda.structures import Motion, MotionSpace, Speech

NUM_FRAMES = 400


@pytest.fixture(scope="module")
def spoken(space: MotionSpace) -> Motion:
    random = np.random.default_rng(0)
    values = space.denormalize(random.normal(size=(NUM_FRAMES, space.size)).astype(np.float32))
    return Motion(values, space)


@pytest.fixture(scope="module")
def guide(space: MotionSpace) -> Motion:
    random = np.random.default_rng(1)
    values = space.denormalize(random.normal(size=(90, space.size)).astype(np.float32))
    values[:, space.slice("blink")] = random.uniform(0, 1, (90, 2))
    return Motion(values, space)


def shaped(spoken: Motion, **options) -> Motion:
    count = len(spoken)
    speech = Speech(np.zeros((count, 2), np.float32), np.ones(count, np.float32))
    pieces = [slice(0, 63), slice(63, 200), slice(200, count)]
    parts = shape_motion(
        ((Motion(spoken.values[p], spoken.space), speech[p], p.stop == count) for p in pieces),
        SpeakingOptions(seed=4, **options),
    )
    return Motion(np.concatenate([part.values for part in parts]), spoken.space)


def differing(first: Motion, second: Motion) -> set[str]:
    """Names of the parts that are not the same."""
    space = first.space
    names = [name for name, _ in space.groups]
    return {
        name for name in (*names, "pose") if not np.array_equal(first.part(name), second.part(name))
    }


class TestBlinkRate:
    @pytest.mark.parametrize("rate", [6.0, 12.0, 17.0, 30.0, 45.0])
    def test_blinks_a_minute(self, rate: float) -> None:
        rule = BlinkRule(3, rate)
        closed = np.array(
            [rule.next(float(frame // 75 % 6 != 0)) > 0.8 for frame in range(25 * 600)]
        )
        blinks = int((closed[1:] & ~closed[:-1]).sum()) / 10
        assert blinks == pytest.approx(rate, rel=0.2)

    def test_none_and_the_usual(self, spoken: Motion) -> None:
        assert not np.any([BlinkRule(0, 0.0).next(1.0) for _ in range(2000)])
        usual, same = shaped(spoken), shaped(spoken, blink_rate=17.0)
        assert differing(usual, same) == set()
        assert differing(usual, shaped(spoken, blink_rate=0.0)) == {"blink"}
        assert differing(usual, shaped(spoken, blink_rate=40.0)) == {"blink"}
        off = shaped(spoken, blink=False)
        assert differing(off, shaped(spoken, blink_rate=0.0)) == set()

    def test_limits(self) -> None:
        with pytest.raises(InputError, match=r"blinks a minute 61 is outside 0\.\.60"):
            SpeakingOptions(blink_rate=61.0)


class TestGaze:
    def test_camera(self, spoken: Motion) -> None:
        usual, camera = shaped(spoken), shaped(spoken, gaze="camera")
        assert differing(usual, camera) == {"gaze"}
        assert differing(usual, shaped(spoken, gaze="wander")) == set()

    def test_how_far_eyes_go(self, spoken: Motion) -> None:
        usual, camera = (shaped(spoken, gaze=gaze).part("gaze") for gaze in ("wander", "camera"))
        assert (camera.std(0) > 0.0).all()
        assert (camera.std(0) < 0.5 * usual.std(0)).all()

    def test_names(self) -> None:
        with pytest.raises(InputError, match="unknown gaze 'left'; choose wander or camera"):
            SpeakingOptions(gaze="left")  # type: ignore[arg-type]


class TestLipsOnly:
    def test_nothing_else_moves(self, spoken: Motion, space: MotionSpace) -> None:
        usual, lips = shaped(spoken), shaped(spoken, lips_only=True)
        assert "mouth" not in differing(usual, lips)
        others = np.delete(lips.values, mouth_columns(space), axis=1)
        rest = np.delete(space.rest, mouth_columns(space))
        np.testing.assert_array_equal(others, np.broadcast_to(rest, others.shape))

    def test_what_is_asked_for_comes_on_top(self, spoken: Motion) -> None:
        lips = shaped(spoken, lips_only=True)
        assert differing(lips, shaped(spoken, lips_only=True, blink_rate=20.0)) == {"blink"}
        assert differing(lips, shaped(spoken, lips_only=True, gaze="wander")) == {"gaze"}


class TestDriving:
    def test_back_and_forth(self, guide: Motion) -> None:
        rows = Guide(guide)
        taken = np.stack([rows.next() for _ in range(3 * len(guide))])
        np.testing.assert_array_equal(taken[:90], guide.values)
        np.testing.assert_array_equal(taken[90:179], guide.values[-2::-1])
        np.testing.assert_array_equal(taken[179:268], guide.values[1:])
        largest = np.abs(np.diff(guide.values, axis=0)).max()
        assert np.abs(np.diff(taken, axis=0)).max() == largest, "no jump where it turns"

    def test_one_frame(self, guide: Motion) -> None:
        still = Guide(Motion(guide.values[:1], guide.space))
        np.testing.assert_array_equal([still.next() for _ in range(5)], guide.values[[0] * 5])

    def test_its_head_and_eyes_with_our_lips(self, spoken: Motion, guide: Motion) -> None:
        usual, driven = shaped(spoken), shaped(spoken, guide=guide)
        assert "mouth" not in differing(usual, driven)
        for part in ("pose", "brows", "cheeks", "gaze"):
            np.testing.assert_allclose(driven.part(part)[:90], guide.part(part), atol=1e-6)
        np.testing.assert_allclose(driven.part("blink")[:90], guide.part("blink"), atol=1e-6)

    def test_what_is_said_of_the_eyes_wins(self, spoken: Motion, guide: Motion) -> None:
        driven = shaped(spoken, guide=guide)
        open_eyes = shaped(spoken, guide=guide, blink_rate=0.0)
        assert differing(driven, open_eyes) == {"blink"}
        assert not open_eyes.part("blink").any()
        assert differing(driven, shaped(spoken, guide=guide, gaze="camera")) == {"gaze"}

    def test_amounts_act_on_it(self, spoken: Motion, guide: Motion) -> None:
        half = shaped(spoken, guide=guide, amounts=MotionAmounts(head_motion=0.5))
        yaw = guide.part("yaw")
        np.testing.assert_allclose(half.part("yaw")[:90], 0.5 * yaw, rtol=1e-5, atol=1e-6)

    def test_the_neural_space(self) -> None:
        groups = (("expression", 63),)
        zero, one = np.zeros(70, np.float32), np.ones(70, np.float32)
        space = MotionSpace("neural", groups, zero, one, "camera")
        lips = Motion(np.full((5, 70), 2.0, np.float32), space)
        guide = Motion(np.full((2, 70), 3.0, np.float32), space)
        (still,) = keep_mouth_only(iter([lips]), zero, None)
        (driven,) = keep_mouth_only(iter([lips]), zero, guide)
        columns = mouth_columns(space)
        assert len(columns) == 18
        assert (still.values[:, columns] == 2.0).all()
        assert (np.delete(still.values, columns, axis=1) == 0.0).all()
        assert (np.delete(driven.values, columns, axis=1) == 3.0).all()
