"""Which voices there are here, and how they are listed."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from kokoro_double import LEVELS, write_kokoro
from moda import cli
from moda.speech_synthesis import espeak, espeak_is_installed, installed
from moda.speech_synthesis.installed import installed_voices, write_samples

needs_espeak = pytest.mark.skipif(not espeak_is_installed(), reason="espeak-ng is not installed")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exited:
        cli.main(["voices", *arguments])
    return int(exited.value.code or 0)


@needs_espeak
class TestVoices:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODA_KOKORO", str(write_kokoro(tmp_path / "kokoro")))

    def test_natural_ones_come_first(self) -> None:
        names = [voice.name for voice in installed_voices()]
        assert names[: len(LEVELS)] == sorted(LEVELS)
        assert "f2" in names
        french = installed_voices("fr-fr")
        assert [voice.name for voice in french if voice.language] == ["ff_siwis"]
        assert "f2" in [voice.name for voice in french]

    def test_samples(self, tmp_path: Path) -> None:
        chosen = tuple(v for v in installed_voices("fr-fr") if v.name in ("ff_siwis", "f2"))
        paths = [path for _, path in write_samples(chosen, tmp_path, "fr-fr")]
        assert [path.name for path in paths] == ["kokoro-ff_siwis.wav", "espeak-f2.wav"]
        for path in paths:
            with wave.open(str(path), "rb") as file:
                assert file.getnframes() > file.getframerate()

    def test_the_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run() == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].split() == ["en-us", "kokoro", "af_heart,", "am_adam"]
        assert lines[3].startswith("any         espeak    ")
        assert "en-us" in lines[4]
        assert run("--samples", "/nowhere") == 2
        assert "does not exist" in capsys.readouterr().err

    def test_without_kokoro(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("MODA_KOKORO")
        monkeypatch.setenv("MODA_HOME", str(tmp_path / "home"))
        assert run("--language", "de") == 0
        assert capsys.readouterr().out.splitlines()[-1].endswith("moda models download kokoro")


def test_without_any_voice_one_command_gets_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installed, "espeak_is_installed", lambda: False)
    assert run() == 2
    said = capsys.readouterr().err
    assert said == f"moda: {espeak.INSTALL}\n"
    assert said.count("pip install ") == 1
