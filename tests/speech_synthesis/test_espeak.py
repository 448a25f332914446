"""espeak-ng out of process: sound, phones and words with their times."""

# ruff: noqa: RUF001 - IPA letters look like Latin ones

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from moda.errors import InputError, MissingExtraError
from moda.phones import Phone
from moda.speech_synthesis import Espeak, espeak, espeak_is_installed, espeak_languages
from paths import load_file

needs_espeak = pytest.mark.skipif(not espeak_is_installed(), reason="espeak-ng is not installed")


@needs_espeak
class TestEspeak:
    def test_sound_phones_and_words(self) -> None:
        spoken = Espeak().speak("Bob has 10,000 points.", language="en-us", voice=None, rate=1.0)
        assert np.abs(spoken.samples).max() > 3000
        assert [word.text.strip() for word in spoken.words] == ["Bob", "has", "10,000", "points."]
        assert "".join(word.text for word in spoken.words) == "Bob has 10,000 points."
        starts = [phone.start_seconds for phone in spoken.phones]
        assert starts == sorted(starts)
        assert spoken.phones[-1].end_seconds <= spoken.seconds + 1e-6
        sounds = [phone for phone in spoken.phones if phone.phones != (Phone.SILENCE,)]
        bilabials = [phone for phone in sounds if phone.phones == (Phone.BILABIAL,)]
        assert [phone.symbol for phone in bilabials] == ["b", "b", "p"]
        points = spoken.words[-1]
        p = bilabials[-1].end_seconds
        assert points.start_seconds <= p <= points.start_seconds + 0.1

    def test_the_sound_is_where_the_phones_are(self) -> None:
        spoken = Espeak().speak("See me.", language="en-us", voice=None, rate=1.0)
        level = np.abs(spoken.samples.astype(float))
        rate = spoken.rate_hz
        vowels = [p for p in spoken.phones if p.phones == (Phone.I,)]
        assert vowels
        for vowel in vowels:
            inside = level[int(vowel.start_seconds * rate) : int(vowel.end_seconds * rate)]
            assert inside.mean() > 0.5 * level.mean()

    def test_rate_and_voice(self) -> None:
        def speak(voice: str | None, rate: float) -> np.ndarray:
            text = "The quick brown fox."
            return Espeak().speak(text, language="en-us", voice=voice, rate=rate).samples

        slow, usual, fast = (len(speak(None, rate)) for rate in (0.7, 1.0, 1.6))
        assert slow > 1.2 * usual > 1.5 * fast
        assert not np.array_equal(speak("f3", 1.0)[:5000], speak("m2", 1.0)[:5000])

    @pytest.mark.parametrize(
        ("text", "language", "phone"),
        [
            ("Привет, мир", "ru", "p"),
            ("Bonjour", "fr-fr", "b"),
            ("你好", "cmn", "n"),
            ("नमस्ते", "hi", "m"),
            ("مرحبا", "ar", "m"),
            ("안녕", "ko", "n"),
        ],
    )
    def test_scripts(self, text: str, language: str, phone: str) -> None:
        spoken = Espeak().speak(text, language=language, voice=None, rate=1.0)
        assert any(segment.symbol.startswith(phone) for segment in spoken.phones)
        assert not any("en" in segment.symbol for segment in spoken.phones)

    def test_what_it_cannot_say(self) -> None:
        for language, voice, says in (
            ("xx", None, "does not speak 'xx'"),
            ("enn-us", None, "such as en-us"),
            ("en-us", "nobody", "no voice 'nobody'; choose one of .*f3"),
            ("en-us; rm -rf /", None, "does not speak"),
        ):
            with pytest.raises(InputError, match=says):
                Espeak().speak("Hi", language=language, voice=voice, rate=1.0)
        with pytest.raises(InputError, match="cannot read Japanese kanji such as '日'"):
            Espeak().speak("日本語です", language="ja", voice=None, rate=1.0)

    def test_languages(self) -> None:
        languages = espeak_languages()
        assert {"en-us", "de", "ru", "cmn"} <= set(languages)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODA_ESPEAK_LIBRARY", "no-such-library.so")
    espeak._known.cache_clear()
    assert not espeak_is_installed()
    with pytest.raises(MissingExtraError, match="pip install espeakng-loader"):
        Espeak().speak("Hi", language="en-us", voice=None, rate=1.0)
    espeak._known.cache_clear()


def test_a_worker_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak.sys, "executable", "/bin/false")
    with pytest.raises(InputError, match="ended with code 1: no message"):
        Espeak().speak("Hi", language="en-us", voice=None, rate=1.0)


def test_the_worker_needs_nothing_of_the_package() -> None:
    code = f"import runpy, sys; runpy.run_path({str(espeak.WORKER)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)
    assert not {"moda", "numpy"} & set(done.stdout.decode().split())


class TestWhereTheLibraryIs:
    """The worker's search; the library itself is never loaded into this process."""

    @pytest.fixture
    def worker(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        worker = load_file(espeak.WORKER)
        monkeypatch.delenv("MODA_ESPEAK_LIBRARY", raising=False)
        monkeypatch.setattr(worker.ctypes.util, "find_library", lambda name: None)
        return worker

    @pytest.fixture
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "espeakng_loader"
        folder.mkdir()
        (folder / "__init__.py").write_text("raise RuntimeError('imported')")
        (folder / "libespeak-ng.so").touch()
        monkeypatch.syspath_prepend(tmp_path)
        return folder

    def test_in_the_package_if_the_system_has_none(
        self, worker: ModuleType, package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def load(name: str) -> str:
            if not name.startswith(str(package)):
                raise OSError
            return name

        monkeypatch.setattr(worker.ctypes, "CDLL", load)
        assert worker.load_library() == (str(package / "libespeak-ng.so"), str(package).encode())
        monkeypatch.setenv("MODA_ESPEAK_LIBRARY", "/nowhere.so")
        assert worker.load_library() == (None, None), "what is named counts alone"

    def test_in_the_system_first(
        self, worker: ModuleType, package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker.ctypes, "CDLL", lambda name: name)
        assert worker.load_library() == (worker.LIBRARIES[0], None)


@needs_espeak
def test_phonemes() -> None:
    said = espeak.espeak_phonemes(["A boy, a cat", "", "Goodbye"], "en-us")
    assert said[0] == "ɐ bˈɔ^ɪ ɐ kˈæt"
    assert said[1] == ""
    assert "ˈa^ɪ" in said[2]
    with pytest.raises(InputError, match="does not speak 'tlh'"):
        espeak.espeak_phonemes(["Hi"], "tlh")
