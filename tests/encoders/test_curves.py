from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.optimize import lsq_linear
from scipy.signal import savgol_filter

from moda.encoders.curves import monotone_curve, smooth
from moda.encoders.portrait import _least_squares


@pytest.mark.parametrize(("count", "window"), [(7, 7), (8, 7), (40, 5)])
def test_smoothing_is_that_of_savitzky_and_golay(count: int, window: int) -> None:
    values = np.random.default_rng(count).normal(size=(count, 3, 2))
    expected = savgol_filter(values, window, 2, axis=0)
    np.testing.assert_allclose(smooth(values, window), expected, atol=1e-12)
    single = values.astype(np.float32)
    assert smooth(single, window).dtype == np.float32


@pytest.mark.parametrize("count", [2, 3, 30])
def test_a_monotone_curve_is_pchip(count: int) -> None:
    random = np.random.default_rng(count)
    times = np.cumsum(random.uniform(0.01, 1.0, count))
    values = random.integers(-3, 4, (count, 5)).astype(float)  # level stretches, too
    wanted = np.concatenate([times, random.uniform(times[0], times[-1], 50)])
    expected = PchipInterpolator(times, values)(wanted)
    np.testing.assert_allclose(monotone_curve(times, values, wanted), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("limit", [0.05, 0.5, 2.0])
def test_bounded_least_squares_are_the_smallest(seed: int, limit: float) -> None:
    random = np.random.default_rng(seed)
    system, target = random.normal(size=(22, 12)), 3.0 * random.normal(size=22)
    expected = lsq_linear(system, target, (-limit, limit), method="bvls", tol=1e-12).x
    np.testing.assert_allclose(_least_squares(system, target, limit), expected, atol=1e-6)
