"""What the tests share: the example's speech, and one loaded model."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import pytest

from moda.live import LiveStream

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="session")
def speech() -> tuple[bytes, int]:
    """1.2 s of 16-bit PCM, and its rate in Hz."""
    with wave.open(str(EXAMPLES / "speech.wav")) as file:
        rate = file.getframerate()
        return file.readframes(int(1.2 * rate)), rate


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    """What the first run on a machine compiles is compiled before anything is timed."""
    asyncio.run(LiveStream.open(EXAMPLES / "portrait.jpg"))
