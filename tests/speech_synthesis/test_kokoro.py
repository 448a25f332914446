"""Kokoro: its notation, its clauses, and its worker with a small double of the network."""

# ruff: noqa: RUF001 - IPA letters look like Latin ones

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from kokoro_double import FRAME, LEVELS, RATE_HZ, write_kokoro
from moda.errors import InputError, MissingExtraError
from moda.phones import Phone
from moda.speech_synthesis import Kokoro, espeak_is_installed
from moda.speech_synthesis.kokoro.clauses import (
    MOST_SYMBOLS,
    Clause,
    SaidWord,
    joined,
    pair_words,
    split_clauses,
    without_mark,
)
from moda.speech_synthesis.kokoro.notation import NUMBERS, kokoro_phonemes

needs_espeak = pytest.mark.skipif(not espeak_is_installed(), reason="espeak-ng is not installed")
REAL = os.environ.get("MODA_KOKORO_TEST")
"""A folder with the real network and voices."""


@pytest.mark.parametrize(
    ("ipa", "language", "symbols"),
    [
        ("bˈɑːɾə^lz", "en-us", "bˈɑTᵊlz"),
        ("bˈʌʔn̩", "en-us", "bˈʌtᵊn"),
        ("ɡˈo^ʊ bˈɜːd nˈʌmbɚɹ", "en-us", "ɡˈO bˈɜɹd nˈʌmbəɹ"),
        ("ɡˈə^ʊ bˈɜːd hˈe^ə kˈæt", "en-gb", "ɡˈQ bˈɜːd hˈɛː kˈat"),
        ("bˈɔ̃ lə- (^e^n)wiːkˈɛnd(^f^r)", "fr-fr", "bˈɔ̃ lə wiːkˈɛnd"),
        ("t^ʃˈao pˈit^sːa", "it", "ʧˈao pˈiʦːa"),
    ],
)
def test_notation(ipa: str, language: str, symbols: str) -> None:
    assert kokoro_phonemes(ipa, language) == symbols
    assert set(symbols) <= set(NUMBERS)


def test_the_vocabulary() -> None:
    assert len(set(NUMBERS.values())) == len(NUMBERS) == 114
    known = {";": 1, "—": 9, "\u0303": 17, "A": 24, "a": 43, "ɔ": 76, "ç": 78, "ʤ": 82, "ɹ": 123}
    assert known | {"ˈ": 156, "ː": 158, "ᵻ": 177} == {s: NUMBERS[s] for s in (*known, *"ˈːᵻ")}


def test_clauses() -> None:
    text = 'Mr. Smith paid 3.50, "quickly"! Why—\nNobody knows '
    clauses = split_clauses(text)
    assert "".join(clauses) == text
    assert [without_mark(clause) for clause in clauses] == [
        ("Mr. Smith paid 3.50", ","),
        ('"quickly', "!"),
        ("Why", "—"),
        ("Nobody knows", ""),
    ]


def test_words_that_are_said_as_one_and_one_that_is_said_as_three() -> None:
    words = ["with ", "the ", "museum ", "of ", "1999."]
    alone = ["wɪð", "ðə", "mjuzˈiəm", "ʌv", "nˈIntinhˈʌndɹɪdnˈInti"]
    said = ["wɪððə", "mjuzˈiəm", "əv", "nˈIntin", "hˈʌndɹɪd", "nˈInti"]
    assert pair_words(words, alone, said) == (
        ("with the ", "wɪððə"),
        ("museum ", "mjuzˈiəm"),
        ("of ", "əv"),
        ("1999.", "nˈIntin hˈʌndɹɪd nˈInti"),
    )
    assert pair_words(["a ", "b"], ["x", "y"], ["z"]) == (("a b", "z"),)


def test_groups_are_sentences_and_never_too_long() -> None:
    def clause(count: int, text: str = "a ", mark: str = "") -> Clause:
        return Clause((SaidWord(text, "a" * count),), mark)

    sentences = [clause(99, "a. ", ".") for _ in range(3)]
    assert [len(group) for group in joined(sentences)] == [1, 1, 1]
    assert [len(group) for group in joined([clause(20, "a. ", ".") for _ in range(9)])] == [6, 3]
    endless = [clause(1000), Clause(tuple(SaidWord("a ", "a" * 90) for _ in range(9)), ",")]
    groups = list(joined(endless))
    for group in groups:
        assert len(" ".join(part.symbols for part in group)) <= MOST_SYMBOLS
    words = [word for group in groups for part in group for word in part.words]
    assert "".join(word.text for word in words) == "a " * 10


@needs_espeak
class TestWorker:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = write_kokoro(tmp_path / "kokoro")
        monkeypatch.setenv("MODA_KOKORO", str(folder))
        return folder

    def test_words_and_phones(self) -> None:
        spoken = Kokoro().speak("Bob, my map.", language="en-us", voice=None, rate=1.0)
        assert spoken.rate_hz == RATE_HZ
        assert set(spoken.samples.tolist()) == {round(LEVELS["af_heart"] * 32767)}
        assert [word.text for word in spoken.words] == ["Bob, ", "my ", "map."]
        assert [phone.symbol for phone in spoken.phones] == [*"bɑb_mImæp_"]
        lips = [phone for phone in spoken.phones if phone.phones == (Phone.BILABIAL,)]
        assert [phone.symbol for phone in lips] == [*"bbmmp"]
        for before, after in zip(spoken.phones, spoken.phones[1:], strict=False):
            assert before.end_seconds == pytest.approx(after.start_seconds)
        frame = FRAME / RATE_HZ
        b, vowel = spoken.phones[:2]
        assert b.end_seconds - b.start_seconds == pytest.approx(2 * frame)
        assert vowel.end_seconds - vowel.start_seconds == pytest.approx(4 * frame), "with stress"
        assert spoken.words[1].start_seconds == pytest.approx(lips[2].start_seconds)
        assert spoken.phones[-2].end_seconds < spoken.seconds

    def test_voice_and_rate(self) -> None:
        usual, fast = (
            Kokoro().speak("Ma ma.", language="en", voice="am_adam", rate=rate)
            for rate in (1.0, 2.0)
        )
        assert usual.samples[0] == round(LEVELS["am_adam"] * 32767)
        assert fast.phones[2].start_seconds < 0.7 * usual.phones[2].start_seconds
        again = Kokoro().speak("Ma ma.", language="en", voice="am_adam", rate=1.0)
        assert np.array_equal(again.samples, usual.samples)
        assert again.phones == usual.phones

    def test_voices_in_one_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODA_KOKORO", str(write_kokoro(tmp_path / "b", one_file=True)))
        spoken = Kokoro().speak("Papa", language="fr-fr", voice=None, rate=1.0)
        assert spoken.samples[0] == round(LEVELS["ff_siwis"] * 32767)
        assert [phone.symbol for phone in spoken.phones] == [*"papa"]

    def test_a_network_that_does_not_tell_its_durations(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MODA_KOKORO", str(write_kokoro(tmp_path / "b", rounds=False)))
        spoken = Kokoro().speak("Papa", language="fr-fr", voice=None, rate=1.0)
        assert spoken.phones == spoken.words == ()
        assert len(spoken.samples) > FRAME

    @pytest.mark.parametrize(
        ("language", "voice", "says"),
        [
            ("tlh", None, "does not speak 'tlh'; choose one of en-us, "),
            ("en-us", "bob", "has no voice 'bob'; choose one of af_heart, am_adam"),
            ("en-us", "af_sky", "has no voice 'af_sky'"),
            ("en-us", "ff_siwis", "'ff_siwis' speaks fr-fr, not en-us"),
        ],
    )
    def test_what_it_refuses(self, language: str, voice: str | None, says: str) -> None:
        with pytest.raises(InputError, match=says):
            Kokoro().speak("Hi", language=language, voice=voice, rate=1.0)

    def test_nothing_to_say(self) -> None:
        spoken = Kokoro().speak("...", language="en-us", voice=None, rate=1.0)
        assert len(spoken.samples) == 0


def test_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODA_KOKORO", raising=False)
    monkeypatch.setenv("MODA_HOME", str(tmp_path))
    with pytest.raises(MissingExtraError, match="get it with: moda models download kokoro"):
        Kokoro().speak("Hi", language="en", voice=None, rate=1.0)
    monkeypatch.setenv("MODA_KOKORO", str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"MODA_KOKORO names .* which has no \.onnx file"):
        Kokoro().speak("Hi", language="en", voice=None, rate=1.0)


@needs_espeak
@pytest.mark.skipif(REAL is None, reason="MODA_KOKORO_TEST names no folder with the real network")
def test_the_real_network(monkeypatch: pytest.MonkeyPatch) -> None:
    assert REAL is not None
    monkeypatch.setenv("MODA_KOKORO", REAL)
    spoken = Kokoro().speak("Papa may map a puma.", language="en-us", voice=None, rate=1.0)
    assert 0.8 < spoken.seconds < 4.0
    level = np.abs(spoken.samples.astype(float))

    def mean(start: float, end: float) -> float:
        return level[int(start * RATE_HZ) : int(end * RATE_HZ)].mean()

    stops = [phone for phone in spoken.phones if phone.symbol == "p"][1:]
    vowels = [phone for phone in spoken.phones if phone.phones[0] in (Phone.A, Phone.ROUNDED)]
    assert len(stops) == 3
    loud = np.median([mean(*phone[1:3]) for phone in vowels])
    for stop in stops:
        assert mean(stop.start_seconds, stop.end_seconds) < 0.4 * loud
