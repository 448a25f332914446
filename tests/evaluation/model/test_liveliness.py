"""Head, brows, gaze and joins of made motion."""

from __future__ import annotations

import numpy as np
import pytest

from made_clips import made_clip, tiny_checkpoint
from moda.evaluation.model.lips import sampled_motion, spoken_clips
from moda.evaluation.model.liveliness import (
    Quartiles,
    brow_heights,
    liveliness_report,
    measure_activity,
    measure_joins,
    real_activity,
    variation,
)
from moda.structures import Motion
from moda.weights.spaces import load_motion_space

SPACE = load_motion_space()


def still(num_frames: int) -> np.ndarray:
    return np.tile(SPACE.rest, (num_frames, 1)).astype(np.float32)


def test_activity_of_a_nod() -> None:
    values = still(500)
    values[:, SPACE.slice("pitch")] = 3.0 * np.sin(2 * np.pi * np.arange(500) / 125)[:, None]
    values[:250, SPACE.slice("gaze")] = (0.1, 0.0)
    found = measure_activity(Motion(values, SPACE))
    assert found.head_amplitude == pytest.approx(3.0 / np.sqrt(2.0) / 3.0, rel=1e-3)
    # a whole period goes 4 x 3 degrees in 5 seconds
    assert found.head_speed == pytest.approx(12.0 / 5.0, rel=0.01)
    assert found.gaze_away == 0.5
    assert found.gaze_spread == pytest.approx(0.0, abs=1e-6)


def test_joins_are_told_from_the_rest() -> None:
    steps = np.full(200, 0.1)
    steps[70] = 2.0  # frame 71: 64 + 7, inside the overlap
    steps[30] = 1.0
    found = measure_joins(steps, 64, 16)
    assert (found.joined[1], found.elsewhere[1]) == (2.0, 1.0)
    assert found.elsewhere[0] == pytest.approx(0.1)
    assert measure_joins(steps[:10], 64, 16).joined == (0.0, 0.0)


def test_variation_of_a_metronome() -> None:
    assert variation(np.full(9, 4.0)) == 0.0
    assert variation(np.array([1.0, 3.0])) == 0.5
    assert np.isnan(variation(np.array([1.0])))


def test_quartiles_hold_what_is_between() -> None:
    quartiles = Quartiles(1.0, 2.0, 3.0)
    assert quartiles.holds(1.0)
    assert not quartiles.holds(3.1)


def test_brows_go_up() -> None:
    assert SPACE.basis is not None
    values = still(3)
    brows = SPACE.slice("brows")
    values[2, brows] = 1.0
    expected = -SPACE.basis[brows].sum(0)[[107, 55, 336, 285, 105, 334], 1].mean()
    np.testing.assert_allclose(brow_heights(Motion(values, SPACE)), [0, 0, expected], atol=1e-6)


def test_real_clips_that_hold_still() -> None:
    found = real_activity([made_clip("a", 0), made_clip("b", 1)], SPACE)
    assert found["head_amplitude"].high < 0.1
    assert real_activity([], SPACE) == {}


def test_report_of_an_untrained_model() -> None:
    checkpoint = tiny_checkpoint()
    clips = [made_clip("a", 0)]
    clip = spoken_clips(clips)[0]
    motion = sampled_motion(checkpoint, clip.speech)
    report = liveliness_report(checkpoint, motion, clip.samples, clips)
    assert report.minutes == pytest.approx(125 / 1500)
    assert report.head_joins.joined[1] > 0.0
    assert report.seed_spread_degrees > 0.0
    assert "| head speed, degrees per second |" in "\n".join(report.markdown())
