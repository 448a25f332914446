"""Pictures of a live session on machines that are too slow for all of them, on a fake clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from live_frames import live_frames
from moda.live import LiveFrame, LiveSession

MOTION_SECONDS, PICTURE_SECONDS = 0.020, 0.015
"""Of a frame on a machine that keeps up."""
BEGIN_SECONDS = 2.0
"""After which a session knows what its frames cost."""


class Still:
    """A head whose frames cost nothing."""

    queued_seconds = skipped_seconds = 0.0

    def __init__(self) -> None:
        (self.frame,) = live_frames(1, (2, 2))
        self.count = 0

    def next_frame(self, *, draw: bool = True) -> LiveFrame:
        self.count += 1
        picture = self.frame.picture if draw else None
        return self.frame._replace(number=self.count - 1, picture=picture)


class Played(NamedTuple):
    pictures: np.ndarray
    """Seconds at which they came"""
    late: np.ndarray
    """Seconds of each frame"""
    num_undrawn: int

    def pauses(self, begin: float, end: float) -> np.ndarray:
        """Between the pictures of that time, its ends too."""
        inside = (self.pictures > begin) & (self.pictures < end)
        return np.diff([begin, *self.pictures[inside], end])


def play(
    seconds: float, slower: Callable[[float], float], *, draw: bool = True, stop_at: int = -1
) -> Played:
    """A session whose frames take so many times as long; it stands still once for half a second."""
    time, pictures, late = 0.0, list[float](), list[float]()

    def sleep(seconds: float) -> None:
        nonlocal time
        time += seconds

    def emit(frame: LiveFrame) -> None:
        cost = MOTION_SECONDS + (PICTURE_SECONDS if frame.picture is not None else 0.0)
        sleep(cost * slower(time) + 0.5 * (frame.number == stop_at))
        if frame.picture is not None:
            pictures.append(time)
        late.append(time - frame.number / 25)
        if time > seconds:
            session._is_stopped.set()

    session = LiveSession(Still(), emit, draw=draw, now=lambda: time, sleep=sleep)  # type: ignore[arg-type]
    session._play()
    return Played(np.array(pictures), np.array(late), session.statistics.num_undrawn)


@pytest.mark.parametrize(
    ("slower", "least_rate", "longest_pause"),
    [(1.0, 24.9, 0.05), (1.5, 11.0, 0.13), (1.8, 3.6, 0.3), (2.0, 1.9, 0.53), (3.0, 2.2, 0.55)],
)
def test_pictures_come_evenly_however_slow_the_machine_is(
    slower: float, least_rate: float, longest_pause: float
) -> None:
    played = play(30.0, lambda _: slower)
    pauses = played.pauses(BEGIN_SECONDS, 30.0)
    assert len(pauses) / (30.0 - BEGIN_SECONDS) > least_rate
    assert pauses.max() < longest_pause
    if MOTION_SECONDS * slower < 0.04:  # sound can be in time, so it is
        assert played.late.max() < 0.16
    assert (played.num_undrawn == 0) == (slower == 1.0)


def test_all_pictures_come_again_when_the_machine_has_time_again() -> None:
    played = play(30.0, lambda time: 3.0 if 10.0 < time < 20.0 else 1.0)
    assert played.pauses(10.0, 20.0).max() < 0.55
    assert played.pauses(21.0, 30.0).max() < 0.05


def test_one_that_stood_still_catches_up_with_pictures() -> None:
    played = play(20.0, lambda _: 1.4, stop_at=250)
    stood = float(played.pictures[np.argmax(np.diff(played.pictures)) + 1])
    assert played.pauses(stood, 20.0).max() < 0.55
    assert played.late[300:].max() < 0.16


def test_a_session_without_pictures_leaves_none_out() -> None:
    played = play(5.0, lambda _: 3.0, draw=False)
    assert (len(played.pictures), played.num_undrawn) == (0, 0)
