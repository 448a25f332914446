"""Frames of a live head that nobody had to draw: brightness and a tone that are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from moda.live import LiveFrame
from moda.phones import Phone
from moda.structures import Motion
from moda.weights.spaces import load_motion_space

RATE_HZ = 48_000
TONE_HZ = 750.0
SPACE = load_motion_space()


def live_frames(
    count: int, size: tuple[int, int], *, undrawn: Sequence[int] = (), channels: int = 3
) -> Iterator[LiveFrame]:
    """Each picture (width, height) has one grey of its own; those in ``undrawn`` have none."""
    per_frame = RATE_HZ // 25
    for number in range(count):
        picture = np.full((size[1], size[0], channels), 40 + 37 * number % 160, np.uint8)
        times = (number * per_frame + np.arange(per_frame)) / RATE_HZ
        yield LiveFrame(
            number=number,
            picture=None if number in undrawn else picture,
            sound=(0.5 * np.sin(2 * np.pi * TONE_HZ * times)).astype(np.float32),
            is_speaking=True,
            is_resting=False,
            is_sounding=True,
            marks=(),
            motion=Motion(SPACE.rest[None], SPACE),
            phone=Phone.A,
            heard_seconds=number / 25,
        )


def bright(frames: Sequence[LiveFrame]) -> list[float]:
    """The grey of each picture, 0 where there is none."""
    return [0.0 if frame.picture is None else float(frame.picture.mean()) for frame in frames]
