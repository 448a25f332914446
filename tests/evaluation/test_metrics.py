"""Metrics against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from moda.evaluation.metrics import (
    blink_onsets,
    blinks_per_minute,
    closed_share,
    drift,
    joined_steps,
    lagged_correlation,
    paired_bootstrap,
    pose_steps,
    psnr,
    silence_runs,
    weighted_mean,
)
from moda.evaluation.model.silence import settled_silence
from moda.structures import Motion
from moda.weights.spaces import load_motion_space


@pytest.mark.parametrize("lag", [-6, -3, 0, 2, 6])
def test_lag_is_found(lag: int) -> None:
    curve = np.cumsum(np.random.default_rng(0).standard_normal(400))
    found = lagged_correlation(curve[20:380], curve[20 - lag : 380 - lag])
    assert found.lag == lag
    assert found.correlation == pytest.approx(1.0)


def test_noise_has_no_correlation() -> None:
    generator = np.random.default_rng(1)
    noise, other = generator.standard_normal((2, 5000))
    assert abs(lagged_correlation(noise, other).correlation) < 0.06


def test_correlation_agrees_with_theory() -> None:
    generator = np.random.default_rng(2)
    signal, noise = generator.standard_normal((2, 20_000))
    expected = 1.0 / np.sqrt(1.0 + 0.75**2)
    assert lagged_correlation(signal, signal + 0.75 * noise).correlation == pytest.approx(
        expected, abs=0.01
    )


def test_silence_is_found_where_it_is() -> None:
    generator = np.random.default_rng(3)
    sound = generator.standard_normal(5 * 16_000).astype(np.float32) * 0.1
    sound[16_000:32_000] = 0.0  # one second: counts
    sound[48_000:52_000] = 0.0  # a quarter: does not
    silent = silence_runs(sound)
    assert silent[25:50].all()
    assert silent.sum() == 25


def test_runs_are_trimmed() -> None:
    silent, settled = np.zeros((2, 38), bool)
    for start, stop in ((0, 6), (7, 18), (20, 29), (30, 38)):
        silent[start:stop] = True
    for start, stop in ((0, 2), (12, 14), (35, 38)):
        settled[start:stop] = True
    np.testing.assert_array_equal(settled_silence(silent), settled)


def test_closed_share() -> None:
    gaps = np.array([0.0, 0.001, 0.2, 0.0])
    assert closed_share(gaps, np.array([1, 1, 1, 0], bool)) == pytest.approx(2 / 3)
    assert np.isnan(closed_share(gaps, np.zeros(4, bool)))


def test_blinks_are_counted() -> None:
    blink = np.zeros(25 * 60)
    for start in (100, 400, 402, 900):
        blink[start : start + 2] = 1.0
    assert blinks_per_minute(blink) == pytest.approx(3.0)  # two of them touch


def test_blinks_begin_where_the_lid_closes() -> None:
    blink = np.zeros(100)
    blink[10:14], blink[50:53] = 0.9, 1.0
    blink[80] = 0.5  # half closed
    np.testing.assert_array_equal(blink_onsets(blink), [10, 50])


def test_joined_steps() -> None:
    joined = joined_steps(199, 64, 16)
    assert not joined[:63].any()  # nothing is joined before the second window
    assert joined[63:79].all()
    assert not joined[79:127].any()
    assert joined[127]


def test_equal_differences_have_an_exact_interval() -> None:
    interval = paired_bootstrap(np.full(7, 0.125), np.arange(1.0, 8.0))
    assert interval.low == pytest.approx(0.125)
    assert interval.high == pytest.approx(0.125)
    assert interval.difference == pytest.approx(0.125)


def test_bootstrap_agrees_with_the_standard_error() -> None:
    differences = np.random.default_rng(0).normal(0.3, 2.0, 400)
    interval = paired_bootstrap(differences, np.ones(400))
    reach = 1.645 * differences.std() / np.sqrt(400)
    assert interval.difference == pytest.approx(differences.mean())
    assert interval.low == pytest.approx(differences.mean() - reach, abs=0.01)
    assert interval.high == pytest.approx(differences.mean() + reach, abs=0.01)


def test_bootstrap_weighs_by_length() -> None:
    interval = paired_bootstrap(np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    assert interval.difference == 0.75
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_pose_steps_are_degrees() -> None:
    space = load_motion_space()
    values = np.zeros((3, space.size), np.float32)
    values[1, space.slice("yaw")] = 3.0
    values[1, space.slice("pitch")] = 4.0
    np.testing.assert_allclose(pose_steps(Motion(values, space)), [5.0, 5.0])


def test_drift_of_a_ramp() -> None:
    ramp = np.linspace(0, 1, 25 * 600)[:, None]
    assert drift(ramp) == pytest.approx(0.45 * np.sqrt(12.0), rel=0.01)
    steady = np.random.default_rng(4).standard_normal((25 * 600, 1))
    assert drift(steady) < 0.2
    assert drift(ramp[:100]) == pytest.approx(0.0)


def test_psnr_closed_form() -> None:
    first = np.full((4, 4, 3), 100, np.uint8)
    where = np.ones((4, 4), bool)
    assert psnr(first, first + np.uint8(10), where) == pytest.approx(20 * np.log10(255 / 10))


def test_weighted_mean() -> None:
    assert weighted_mean(np.array([1.0, 3.0]), np.array([3.0, 1.0])) == 1.5
