"""Statistics in parts against numpy on the whole."""

from __future__ import annotations

import json

import numpy as np

from moda.data.statistics import MotionStatistics


def test_parts_in_any_order_are_the_whole() -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(5.0, [1.0, 20.0, 0.01], (500, 3)) + np.linspace(0, 9, 500)[:, None]
    parts = [MotionStatistics.of(part) for part in np.split(rows, [3, 4, 200, 200])]
    for order in (parts, parts[::-1], [*parts[2:], *parts[:2]]):
        total = MotionStatistics.total(order, 3)
        assert total.num_frames == 500
        np.testing.assert_allclose(total.mean, rows.mean(0), rtol=1e-12)
        np.testing.assert_allclose(total.std, rows.std(0), rtol=1e-9)


def test_nothing_and_one_frame() -> None:
    nothing = MotionStatistics.total([], 2)
    assert nothing.num_frames == 0
    np.testing.assert_array_equal(nothing.std, [0.0, 0.0])
    one = nothing + MotionStatistics.of(np.array([[3.0, -1.0]]))
    np.testing.assert_array_equal(one.mean, [3.0, -1.0])
    np.testing.assert_array_equal(one.std, [0.0, 0.0])


def test_json_both_ways() -> None:
    statistics = MotionStatistics.of(np.random.default_rng(1).random((7, 4)))
    again = MotionStatistics.from_dict(json.loads(json.dumps(statistics.to_dict())))
    assert again.num_frames == 7
    np.testing.assert_array_equal(again.mean, statistics.mean)
    np.testing.assert_array_equal(again.squares, statistics.squares)
