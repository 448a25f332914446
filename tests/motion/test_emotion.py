"""Emotion offsets: where they go, how fast, and how they end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from motion_networks import mesh_config, small_model

from moda.motion.emotion import CHANGE_SECONDS, EmotionOffsets
from moda.motion.model import MotionTransformer
from moda.structures import EMOTIONS, EmotionAt, Floats, MotionSpace, Style

CHANGE_FRAMES = 15
"""0.6 s"""


@pytest.fixture(scope="module")
def model() -> MotionTransformer:
    model = small_model(config=mesh_config())
    table = np.random.default_rng(0).standard_normal(model.emotion_mean.shape)
    model.emotion_mean.copy_(torch.from_numpy(table))
    return model


@pytest.fixture(scope="module")
def table(model: MotionTransformer, space: MotionSpace) -> Floats:
    """(9, D) raw offsets: a difference of raw motions that are normalised numbers apart."""
    rows = model.emotion_mean.numpy()
    difference: Floats = space.denormalize(rows) - space.denormalize(np.zeros_like(rows))
    return difference


def offsets(
    model: MotionTransformer, space: MotionSpace, *schedule: EmotionAt, num_frames: int = 100
) -> Floats:
    rule = EmotionOffsets(model, space, Style(schedule))
    return np.stack([rule.next() for _ in range(num_frames)])


def test_an_emotion_from_the_beginning_is_there_at_once(
    model: MotionTransformer, space: MotionSpace, table: Floats
) -> None:
    rows = offsets(model, space, EmotionAt(0.0, "happy", 0.7))
    expected = 0.7 * table[EMOTIONS.index("happy")]
    np.testing.assert_allclose(rows, np.tile(expected, (100, 1)), atol=1e-5)


def smoothstep(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0.0, 1.0)
    result: np.ndarray = share**2 * (3.0 - 2.0 * share)
    return result


def test_it_comes_and_goes_smoothly(
    model: MotionTransformer, space: MotionSpace, table: Floats
) -> None:
    rows = offsets(model, space, EmotionAt(1.0, "sad"), EmotionAt(2.4, None))
    frames = np.arange(100)
    rising = smoothstep((frames - 24) / CHANGE_FRAMES)  # frame 25 makes the first step
    falling = smoothstep((frames - 59) / CHANGE_FRAMES)
    expected = (rising - falling)[:, None] * table[EMOTIONS.index("sad")]
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    assert pytest.approx(CHANGE_SECONDS * 25) == CHANGE_FRAMES
    assert not rows[:25].any()
    np.testing.assert_array_equal(rows[75:], 0.0)


def test_one_passes_into_the_other(
    model: MotionTransformer, space: MotionSpace, table: Floats
) -> None:
    schedule = (EmotionAt(0.0, "angry", 0.4), EmotionAt(1.0, "surprised", 0.9))
    rows = offsets(model, space, *schedule)
    first, last = 0.4 * table[EMOTIONS.index("angry")], 0.9 * table[EMOTIONS.index("surprised")]
    np.testing.assert_allclose(rows[24], first, atol=1e-5)
    np.testing.assert_allclose(rows[24 + CHANGE_FRAMES], last, atol=1e-5)
    # The slope of a smoothstep is at most 1.5; two of them pass at the same time.
    largest = 1.5 / CHANGE_FRAMES * (np.abs(table[0]) + np.abs(table[7]))
    steps = np.abs(np.diff(rows, axis=0))
    assert (steps <= largest + 1e-5).all()
    assert steps.max() > 0.0


@pytest.mark.parametrize("intensity", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_intensities_are_shares_of_the_offset(
    model: MotionTransformer, space: MotionSpace, table: Floats, intensity: float
) -> None:
    rows = offsets(model, space, EmotionAt(0.4, "fear", intensity))
    np.testing.assert_allclose(rows[-1], intensity * table[EMOTIONS.index("fear")], atol=1e-5)


def test_no_emotion_and_no_table(model: MotionTransformer, space: MotionSpace) -> None:
    assert not offsets(model, space).any()
    plain = small_model(config=mesh_config(has_mean=False))
    assert not offsets(plain, space, EmotionAt(0.0, "happy")).any()
