"""Texts of a live session: spoken one after the other, handed over as the head speaks them."""

from __future__ import annotations

import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_server import wait_until

from moda.errors import InputError
from moda.options import VideoOptions
from moda.serving.live import texts
from moda.serving.live.protocol import ProtocolError, Say, read_control
from moda.serving.live.texts import TextReader
from moda.speech_synthesis import SpokenText
from moda.structures import EmotionAt, Style

RATE = 16_000
FRAME = RATE // 25


@pytest.fixture
def rejected() -> list[str]:
    return []


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch, rejected: list[str]) -> Iterator[TextReader]:
    """A voice that says every letter in a tenth of a second, as loud as the letter's number."""

    def speak(options: VideoOptions, path: Path, *, stages: Any, max_seconds: float) -> SpokenText:
        assert options.text is not None
        if options.text == "impossible":
            raise InputError("no voice says that")
        with stages("Speaking") as progress:
            for number in range(options.text.count("z") * 100):
                time.sleep(0.01)
                progress(number, 1)
        levels = np.repeat([ord(letter) * 100 for letter in options.text], RATE // 10)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(levels.astype("<i2").tobytes())
        style = Style((EmotionAt(0.2, "happy", 1.0),))
        seconds = len(options.text) / 10
        return SpokenText(path, seconds, options.text, style, (), (), "en-us")

    monkeypatch.setattr(texts, "speak_text", speak)
    monkeypatch.setattr(texts, "espeak_is_installed", lambda: True)
    reader = TextReader(RATE, 60.0, rejected.append)
    yield reader
    reader.close()


def taken(reader: TextReader, until: Callable[[], bool]) -> list[tuple[int, list[EmotionAt]]]:
    """Sizes of what is handed over with each frame that has some, and emotions."""
    found = []
    deadline = time.monotonic() + 20
    while not until():
        assert time.monotonic() < deadline
        sound, emotions = reader.next_sound()
        if sound is None:
            time.sleep(0.001)
        else:
            found.append((len(sound), emotions))
    return found


def test_sound_comes_with_the_frames_and_whole(reader: TextReader) -> None:
    reader.say({"text": "abcde"})
    reader.say({"text": "fghij"})
    assert reader.is_busy
    assert wait_until(lambda: len(reader._sounds) == 2)
    sizes = taken(reader, lambda: not reader.is_busy)
    assert sum(size for size, _ in sizes) == RATE
    assert sizes[0][0] == 3 * FRAME, "a little is there before it begins"
    assert {size for size, _ in sizes[1:]} <= {FRAME, FRAME // 2}
    assert [k for k, (_, emotions) in enumerate(sizes) if emotions] == [3, 16]


def test_an_interruption_drops_what_waits_and_what_is_being_spoken(reader: TextReader) -> None:
    for text in ("abcde", "zzz", "after"):
        reader.say({"text": text})
    assert wait_until(lambda: len(reader._sounds) == 1)
    reader.forget()
    assert not reader.is_busy
    reader.say({"text": "x"})
    begun = time.monotonic()
    assert [size for size, _ in taken(reader, lambda: not reader.is_busy)] == [RATE // 10]
    assert time.monotonic() - begun < 2.0, "the long one is given up"


def test_what_cannot_be_said_is_told_and_the_rest_goes_on(
    reader: TextReader, rejected: list[str]
) -> None:
    reader.say({"text": "impossible"})
    reader.say({"text": "a", "seed": "1", "nonsense": "2"})
    reader.say({"text": "[pause:60] [pause:60] hello"})
    reader.say({"text": "a"})
    assert len(taken(reader, lambda: not reader.is_busy)) == 1
    assert "no voice says that" in rejected[0]
    assert "nonsense" in rejected[1]
    assert "limit of 60 s" in rejected[2]


def test_not_too_many_wait_and_not_too_much_is_spoken_ahead(
    reader: TextReader, rejected: list[str]
) -> None:
    for _ in range(40):
        reader.say({"text": "abcdefghij" * 6})
    assert len(rejected) == 8
    assert "32 texts" in rejected[0]
    time.sleep(0.5)
    assert len(reader._sounds) <= 3


def test_closing_ends_the_thread(reader: TextReader) -> None:
    reader.say({"text": "z" * 50})
    reader.close()
    reader._thread.join(5)
    assert not reader._thread.is_alive()
    assert threading.active_count() < 20


def test_a_server_without_a_voice_says_so(
    reader: TextReader, rejected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "espeak_is_installed", lambda: False)
    reader.say({"text": "a"})
    assert rejected == [texts.NO_VOICE]
    assert not reader.is_busy


def test_the_message_is_checked() -> None:
    assert read_control('{"type":"text","text":"Hi","rate":1.5,"language":null}') == Say(
        {"text": "Hi", "rate": 1.5}
    )
    for wrong in (
        '{"type":"text"}',
        '{"type":"text","text":" "}',
        '{"type":"text","text":5}',
        '{"type":"text","text":"a","rate":"fast"}',
        '{"type":"text","text":"a","rate":true}',
        '{"type":"text","text":"a","text_file":"/etc/passwd"}',
        '{"type":"text","text":"a","tts_command":"x"}',
        '{"type":"text","text":"%s"}' % ("a" * 5000),
    ):
        with pytest.raises(ProtocolError):
            read_control(wrong)
