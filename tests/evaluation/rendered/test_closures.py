"""Closures at known places of made lip gaps."""

from __future__ import annotations

import numpy as np
import pytest

from moda.evaluation.rendered.closures import ClosuresMet, find_closures, low_gap, meet_closures

PLACES = (20, 47, 61, 90, 133, 150, 171)


def made_gap(
    places: tuple[int, ...] = PLACES,
    *,
    num_frames: int = 200,
    closed: float = 0.005,
    opened: float = 0.1,
) -> np.ndarray:
    """Open lips that waver, and close for three frames around each place."""
    gap = opened + 0.01 * np.sin(1.7 * np.arange(num_frames))
    for place in places:
        gap[place - 1 : place + 2] = closed + np.array([0.004, 0.0, 0.004])
    return gap


def test_closures_are_found_where_they_are() -> None:
    assert find_closures(made_gap()) == list(PLACES)


def test_a_pause_and_an_open_mouth_are_no_closures() -> None:
    gap = made_gap((30, 150))
    gap[60:100] = 0.003  # a pause: its lowest frame is far from any opening
    gap[80] = 0.001
    assert find_closures(gap) == [30, 150]
    for ends in (slice(0, 30), slice(170, 200)):
        resting = made_gap((100,))
        resting[ends] = 0.004
        resting[ends.start + 2 : ends.stop - 2] = 0.006  # closest where the pause begins and ends
        resting[ends.start if ends.start == 0 else ends.stop - 1] = 0.005
        assert find_closures(resting) == [100]
    assert find_closures(np.full(100, 0.1)) == []
    assert find_closures(np.full(100, 0.0)) == []


def test_a_closure_that_wavers_is_one() -> None:
    gap = made_gap((50,), num_frames=100)
    gap[49:54] = [0.01, 0.004, 0.05, 0.002, 0.01]  # above low, but not open
    assert find_closures(gap) == [52]


def test_lips_that_a_tracker_never_sees_closed_are_low_for_themselves() -> None:
    gap = made_gap(num_frames=180, closed=0.05, opened=0.15)
    assert find_closures(gap) == list(PLACES)


def test_all_closures_are_met_by_the_same_lips_and_late_ones() -> None:
    filmed = made_gap()
    assert meet_closures(filmed, filmed).met == len(PLACES)
    late = meet_closures(filmed, np.roll(filmed, 5))
    assert (late.closures, late.met, late.touched) == (len(PLACES),) * 3
    assert late.by_chance < 0.55 * len(PLACES)


def test_what_is_later_than_lag_and_reach_is_not_met() -> None:
    """One closure of two, seven frames off, while the other one holds the lag at 0."""
    filmed, ours = made_gap((40, 120)), made_gap((40, 127))
    ours[38:42] = filmed[38:42] = 0.001  # the deeper one decides the lag
    found = meet_closures(filmed, ours)
    assert (found.closures, found.met) == (2, 1)


def test_missed_closures_count() -> None:
    found = meet_closures(made_gap(), made_gap(PLACES[:4]))
    assert (found.closures, found.touched) == (7, 4)
    assert found.met == 4


def test_a_mouth_that_is_always_closed_is_no_better_than_chance() -> None:
    found = meet_closures(made_gap(), np.full(200, 0.01))
    met, touched, chance = found.shares
    assert met == touched == chance == 1.0


def test_a_mouth_that_never_closes_touches_nothing() -> None:
    open_mouth = made_gap(closed=0.06)
    found = meet_closures(made_gap(), open_mouth)
    assert found.touched == 0
    assert found.by_chance < 4.0
    assert found.met == 7, "low for these lips"


def test_the_threshold_of_ours() -> None:
    assert low_gap(np.linspace(0.0, 0.01, 101)) == 0.03
    assert low_gap(np.linspace(0.1, 0.5, 101)) == pytest.approx(0.108 + 0.3 * 0.192)


def test_counts_add_and_nothing_has_no_share() -> None:
    assert ClosuresMet(2, 1, 1, 0.5) + ClosuresMet(3, 2, 1, 1.0) == ClosuresMet(5, 3, 2, 1.5)
    assert ClosuresMet(4, 3, 2, 1.0).shares == (0.75, 0.5, 0.25)
    assert np.isnan(ClosuresMet().shares).all()
    assert meet_closures(np.full(50, 0.1), np.full(50, 0.1)) == ClosuresMet()
