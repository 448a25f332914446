"""Emotion offsets: where they go, how fast, and how they end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from motion_networks import mesh_config, small_model

from moda.motion.model import MotionTransformer
from moda.motion.rules.emotion import (
    CHANGE_SECONDS,
    CONTACT_GAP,
    SPEAKING_GAP,
    EmotionOffsets,
    part_with_speech,
)
from moda.motion.rules.idle import LipClosure
from moda.structures import EMOTIONS, EmotionAt, Floats, MotionSpace, Style
from moda.structures.landmarks import lip_gaps

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
    return space.denormalize(rows) - space.denormalize(np.zeros_like(rows))


def offsets(
    model: MotionTransformer, space: MotionSpace, *schedule: EmotionAt, num_frames: int = 100
) -> Floats:
    rule = EmotionOffsets(model, space, Style(schedule))
    return np.stack([rule.next() for _ in range(num_frames)])


def smoothstep(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0.0, 1.0)
    return share**2 * (3.0 - 2.0 * share)


def test_an_emotion_from_the_beginning_eases_in_from_the_photograph(
    model: MotionTransformer, space: MotionSpace, table: Floats
) -> None:
    rows = offsets(model, space, EmotionAt(0.0, "happy", 1.0))
    amounts = smoothstep((np.arange(100) + 1) / CHANGE_FRAMES)
    expected = amounts[:, None] * table[EMOTIONS.index("happy")]
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    faint = offsets(model, space, EmotionAt(0.0, "happy", 0.7))
    np.testing.assert_allclose(
        faint[CHANGE_FRAMES:], np.tile(0.7 * table[EMOTIONS.index("happy")], (85, 1)), atol=1e-5
    )


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


def mouth_gaps(space: MotionSpace, rows: Floats) -> np.ndarray:
    """(T, 9) of motion rows, from the vertices."""
    assert space.basis is not None
    mouth = space.slice("mouth")
    basis = space.basis[mouth].astype(np.float64)
    faces = np.tensordot(rows[:, mouth].astype(np.float64), basis, 1)
    return lip_gaps(faces)


def speaking(space: MotionSpace, gaps: np.ndarray) -> Floats:
    """Rows (T, D) whose lips are open by so much in the middle, on a mouth that does more."""
    assert space.basis is not None
    rows = np.zeros((len(gaps), space.size), np.float32)
    rows[:, 1:4] = 0.3 * space.std[1:4]
    per_unit = lip_gaps(space.basis[0].astype(np.float64))[4]
    rows[:, 0] = (gaps - mouth_gaps(space, rows)[:, 4]) / per_unit
    return rows


@pytest.fixture
def smile(space: MotionSpace) -> Floats:
    """Parts the lips by 0.04 and moves the brows."""
    offset: Floats = speaking(space, np.array([0.04]))[0]
    offset[space.slice("brows")] = 0.2
    return offset


class TestParting:
    """Of speaking lips by an emotion."""

    def added(self, space: MotionSpace, smile: Floats, gaps: np.ndarray) -> Floats:
        offsets = np.tile(smile, (len(gaps), 1))
        return part_with_speech(offsets, speaking(space, gaps), LipClosure(space))

    def test_closed_lips_stay_as_they_are(self, space: MotionSpace, smile: Floats) -> None:
        gaps = np.array([-0.02, -0.004, 0.0, CONTACT_GAP])
        added = self.added(space, smile, gaps)
        assert np.abs(mouth_gaps(space, added)[:, 4]).max() < 0.004
        others = [column for column in range(space.size) if column >= space.slice("mouth").stop]
        np.testing.assert_array_equal(added[:, others], np.tile(smile[others], (len(gaps), 1)))
        assert space.basis is not None
        corners = np.tensordot(added[:, :16] - smile[:16], space.basis[:16, [61, 291], :2], 1)
        assert np.abs(corners).max() < 0.015  # the corners still smile

    def test_open_lips_are_parted_in_full(self, space: MotionSpace, smile: Floats) -> None:
        added = self.added(space, smile, np.array([SPEAKING_GAP, 0.1, 0.3]))
        np.testing.assert_allclose(added, np.tile(smile, (3, 1)), atol=1e-12)

    def test_it_grows_with_the_gap_and_faster_nowhere_than_speech_by_far(
        self, space: MotionSpace, smile: Floats
    ) -> None:
        gaps = np.linspace(0.0, 0.05, 51)
        total = gaps + mouth_gaps(space, self.added(space, smile, gaps))[:, 4]
        slope = np.diff(total) / np.diff(gaps)
        assert slope.min() > 0.9
        assert slope.max() < 4.5

    def test_pressed_lips_stay_pressed(self, space: MotionSpace) -> None:
        pressed = speaking(space, np.array([-0.03]))
        speech = speaking(space, np.array([0.01]))
        np.testing.assert_array_equal(part_with_speech(pressed, speech, LipClosure(space)), pressed)
