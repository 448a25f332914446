"""A text with tags becomes a sound file, and everything in it keeps its time."""

# ruff: noqa: RUF001 - several scripts

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from moda.errors import InputError, OutputError
from moda.phones import Phone, PhoneSegment
from moda.speech_synthesis import Espeak, Utterance, espeak_is_installed, synthesise
from moda.speech_synthesis.speaking import PIECE_CHARACTERS, split_sentences
from moda.structures import EmotionAt
from moda.structures.words import TimedWord

needs_espeak = pytest.mark.skipif(not espeak_is_installed(), reason="espeak-ng is not installed")


class Tones:
    """A synthesiser with known times: a tenth of a second of tone for every character."""

    def __init__(self, rate_hz: int = 8000, *, takes_language: bool = True) -> None:
        self.rate_hz = rate_hz
        self.takes_language = takes_language
        self.said: list[tuple[str, str]] = []

    def speak(self, text: str, *, language: str, voice: str | None, rate: float) -> Utterance:
        self.said.append((text, language))
        seconds = 0.1 * len(text)
        samples = np.full(round(seconds * self.rate_hz), 5000, np.int16)
        phones = (PhoneSegment("a", 0.0, seconds, (Phone.A,)),)
        return Utterance(samples, self.rate_hz, phones, (TimedWord(text, 0.0, seconds),))


def read(path: Path) -> tuple[np.ndarray, int]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


def test_times_are_those_of_the_sound(tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    spoken = synthesise("Ah. [happy:0.5] Oh [pause:2] Eh", path, synthesiser=Tones())
    samples, rate_hz = read(path)
    sounding = np.abs(samples) > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], sounding, [False]]).astype(int)))
    times = [edge / rate_hz for edge in edges]
    np.testing.assert_allclose(times, [0.2, 0.5, 0.8, 1.0, 3.0, 3.2], atol=1e-3)
    assert [word.start_seconds for word in spoken.words] == pytest.approx([0.2, 0.8, 3.0])
    assert [phone.start_seconds for phone in spoken.phones] == pytest.approx([0.2, 0.8, 3.0])
    (entry,) = spoken.style.schedule
    assert entry.emotion == "happy"
    assert entry.intensity == 0.5
    assert 0.5 <= entry.seconds <= 0.8, "between the words"
    assert spoken.seconds == pytest.approx(len(samples) / rate_hz) == pytest.approx(3.5)
    assert spoken.text == "Ah. Oh Eh"


def test_languages_of_scripts(tmp_path: Path) -> None:
    tones = Tones()
    synthesise("Hi. Привет. 你好。", tmp_path / "a.wav", synthesiser=tones)
    assert tones.said == [("Hi.", "en-us"), ("Привет.", "ru"), ("你好。", "cmn")]
    plain = Tones(takes_language=False)
    synthesise("Hi. Привет. 你好。", tmp_path / "a.wav", synthesiser=plain)
    assert plain.said == [("Hi. Привет. 你好。", "en-us")]


def test_rates_that_differ(tmp_path: Path) -> None:
    class Changing(Tones):
        def speak(self, text: str, **options: object) -> Utterance:
            self.rate_hz = 8000 if "Ah" in text else 16_000
            return super().speak(text, **options)  # type: ignore[arg-type]

    spoken = synthesise("Ah. [sad] Ohoh", tmp_path / "a.wav", synthesiser=Changing())
    samples, rate_hz = read(spoken.path)
    assert rate_hz == 8000
    assert int((np.abs(samples) > 2500).sum()) == pytest.approx(0.7 * 8000, abs=8)


@needs_espeak
class TestWithEspeak:
    def test_commas_digits_emoji_and_three_scripts(self, tmp_path: Path) -> None:
        text = "Well, 3 cats 😀, 1,000 dogs; Привет, мир! 你好，世界。"
        spoken = synthesise(text, tmp_path / "a.wav", synthesiser=Espeak())
        assert spoken.text == "Well, 3 cats, 1,000 dogs; Привет, мир! 你好，世界。"
        assert "".join(word.text for word in spoken.words).split() == spoken.text.split()
        starts = [word.start_seconds for word in spoken.words]
        assert starts == sorted(starts)
        assert len(spoken.phones) > 40

    def test_ten_thousand_characters(self, tmp_path: Path) -> None:
        text = "The quick brown fox, number 42, jumps over 1,000 lazy dogs. " * 170
        assert len(text) > 10_000
        counts: list[tuple[int, int]] = []
        spoken = synthesise(
            text,
            tmp_path / "a.wav",
            synthesiser=Espeak(),
            rate=2.0,
            progress=lambda *count: counts.append(count),
        )
        samples, rate_hz = read(spoken.path)
        assert len(samples) / rate_hz == pytest.approx(spoken.seconds)
        assert spoken.seconds > 240
        assert len(spoken.words) == 170 * 11
        assert counts[-1][0] == counts[-1][1]
        assert len(counts) >= len(text) // PIECE_CHARACTERS

    def test_the_schedule_follows_the_words(self, tmp_path: Path) -> None:
        for language, text in (
            ("en-us", "[happy] Hello, Bob! [sad:0.6] I have to go."),
            ("de", "[happy] Hallo, Bob! [sad:0.6] Ich muss gehen."),
            ("es", "[happy] ¡Hola, Bob! [sad:0.6] Tengo que irme."),
        ):
            spoken = synthesise(text, tmp_path / "a.wav", synthesiser=Espeak(), language=language)
            first, second = spoken.style.schedule
            assert first == EmotionAt(0.0, "happy", 1.0)
            assert (second.emotion, second.intensity) == ("sad", 0.6)
            before = next(word for word in spoken.words if "Bob" in word.text)
            after = spoken.words[spoken.words.index(before) + 1]
            assert before.end_seconds <= second.seconds <= after.start_seconds


def test_limits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rate of speech 3 is outside 0\.5\.\.2"):
        synthesise("Hi", tmp_path / "a.wav", synthesiser=Tones(), rate=3.0)
    with pytest.raises(OutputError, match="cannot write"):
        synthesise("Hi", tmp_path / "missing" / "a.wav", synthesiser=Tones())


@pytest.mark.parametrize("limit", [20, 50, 1000])
def test_sentences(limit: int) -> None:
    text = 'One. "Two," he said! Three?\n\nA longer sentence without any stop at all, '
    text += "x" * 30 + " 你好。世界！ end"
    pieces = list(split_sentences(text, limit))
    assert "".join(pieces) == text
    assert all(len(piece) <= limit for piece in pieces)
    assert any(piece.endswith("\n\n") for piece in pieces), "a paragraph ends a piece"
