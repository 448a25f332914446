"""A page that is really served, with the built-in model and short recordings."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from moda.pipeline import TalkingHead
from moda.web.text import TextSpeaker
from paths import EXAMPLES


@pytest.fixture(scope="session")
def head() -> TalkingHead:
    return TalkingHead.from_pretrained("moda-tiny", device="cpu")


@pytest.fixture(scope="session")
def two_seconds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The beginning of the example."""
    return cut(tmp_path_factory.mktemp("speech") / "two.wav", 2.0)


@pytest.fixture(scope="session")
def five_seconds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first sentence of the example."""
    return cut(tmp_path_factory.mktemp("speech") / "five.wav", 5.0)


def cut(path: Path, seconds: float) -> Path:
    with (
        wave.open(str(EXAMPLES / "speech.wav")) as source,
        wave.open(str(path), "wb") as target,
    ):
        target.setparams(source.getparams())
        target.writeframes(source.readframes(round(seconds * source.getframerate())))
    return path


@pytest.fixture(scope="session")
def silent_speaker() -> TextSpeaker:
    """A computer without a synthesiser."""
    return TextSpeaker("nothing on this computer can speak; install espeak-ng")
