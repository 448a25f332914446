"""Rest, blinks and amounts."""

from __future__ import annotations

import numpy as np
import pytest

from moda.checkpoints import load_motion_space
from moda.evaluation.metrics import blinks_per_minute
from moda.landmarks import lip_gaps
from moda.motion.controls import scale_motion, shape_motion
from moda.motion.idle import RESTING_GAP, BlinkRule, LipClosure
from moda.structures import Motion, MotionSpace, Speech


@pytest.fixture(scope="module")
def space() -> MotionSpace:
    return load_motion_space()


def random_motion(space: MotionSpace, num_frames: int) -> Motion:
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((num_frames, space.size)).astype(np.float32)
    return Motion(space.denormalize(noise), space)


def speech_of(activity: np.ndarray) -> Speech:
    return Speech(np.zeros((len(activity), 160), np.float32), activity.astype(np.float32))


def gaps_of(motion: Motion) -> np.ndarray:
    basis = motion.space.basis
    assert basis is not None
    return motion.part("mouth") @ lip_gaps(basis[:16].astype(np.float64))


def test_resting_lips_touch_everywhere(space: MotionSpace) -> None:
    rest = LipClosure(space)
    mouth = 2.0 * space.std[:16].astype(np.float64)
    closed = rest.closed(mouth)
    gaps = closed @ lip_gaps(space.basis[:16].astype(np.float64))  # type: ignore[index]
    np.testing.assert_allclose(gaps, RESTING_GAP, atol=1e-3)


def test_lips_rest_in_silence_and_not_in_speech(space: MotionSpace) -> None:
    activity = np.ones(200)
    activity[80:140] = 0.0
    motion = random_motion(space, 200)
    (shaped,) = shape_motion([(motion, speech_of(activity))], seed=0)
    gaps = gaps_of(shaped)
    assert np.abs(gaps[85:140] - RESTING_GAP).max() < 2e-3
    np.testing.assert_array_equal(shaped.part("mouth")[10:80], motion.part("mouth")[10:80])
    jump = np.abs(np.diff(shaped.part("mouth"), axis=0))[78:88].max()
    assert jump <= np.abs(np.diff(motion.part("mouth"), axis=0)).max()


def test_stretches_do_not_matter(space: MotionSpace) -> None:
    motion, activity = random_motion(space, 300), np.repeat([1.0, 0.0, 1.0], 100)
    (whole,) = shape_motion([(motion, speech_of(activity))], seed=3)
    pieces = [
        (Motion(motion.values[a:b], space), speech_of(activity[a:b]))
        for a, b in ((0, 63), (63, 64), (64, 127), (127, 300))
    ]
    values = np.concatenate([part.values for part in shape_motion(pieces, seed=3)])
    np.testing.assert_array_equal(values, whole.values)


@pytest.mark.parametrize("seed", range(5))
def test_blinks_are_as_many_as_peoples(seed: int) -> None:
    rule = BlinkRule(seed)
    lids = np.array([rule.next(float(np.sin(t / 40) > -0.5)) for t in range(25 * 600)])
    assert 8 <= blinks_per_minute(lids) <= 25
    closings = np.flatnonzero((lids[1:] > 0.6) & (lids[:-1] <= 0.6)) / 25.0
    intervals = np.diff(closings)
    assert intervals.std() / intervals.mean() > 0.3  # no metronome
    assert lids.max() == 1.0


def test_another_seed_blinks_otherwise() -> None:
    first, second = BlinkRule(1), BlinkRule(2)
    assert [first.next(1.0) for _ in range(500)] != [second.next(1.0) for _ in range(500)]


def test_amounts(space: MotionSpace) -> None:
    motion = random_motion(space, 50)
    still = scale_motion(motion, rest=motion.space.rest, head_motion=0.0)
    np.testing.assert_array_equal(still.part("pose"), [[1, 0, 0, 0, 0, 0, 0]] * 50)
    np.testing.assert_array_equal(still.part("mouth"), motion.part("mouth"))
    half = scale_motion(motion, rest=motion.space.rest, expression=0.5)
    np.testing.assert_allclose(half.part("brows"), 0.5 * motion.part("brows"), rtol=1e-6)
    np.testing.assert_allclose(half.part("pose"), motion.part("pose"), atol=1e-6)


def test_no_blink(space: MotionSpace) -> None:
    motion = random_motion(space, 500)
    (shaped,) = shape_motion([(motion, speech_of(np.ones(500)))], seed=0, blink=False)
    assert shaped.part("blink").max() == 0.0
