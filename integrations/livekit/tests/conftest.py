"""What the tests share: the example's speech, and a small face."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from livekit import rtc
from livekit.plugins.moda import Face

EXAMPLES = Path(__file__).parents[3] / "examples"
Speech = Callable[[float], AsyncIterator[rtc.AudioFrame]]


@pytest.fixture(scope="session")
def face() -> Face:
    """Opened once, so that what the first run on a machine compiles is compiled."""
    face = Face(EXAMPLES / "portrait.jpg", size=128, seed=0)
    asyncio.run(face.open())
    return face


@pytest.fixture(scope="session")
def speech() -> Speech:
    """Speech of so many seconds as a synthesiser gives it: faster than it is spoken."""
    with wave.open(str(EXAMPLES / "speech.wav")) as file:
        rate, pcm = file.getframerate(), file.readframes(file.getnframes())

    async def frames(seconds: float) -> AsyncIterator[rtc.AudioFrame]:
        count = rate // 50
        for number in range(int(seconds * 50)):
            start = number * count * 2 % (len(pcm) - count * 2)
            yield rtc.AudioFrame(pcm[start : start + count * 2], rate, 1, count)
            await asyncio.sleep(0)

    return frames
