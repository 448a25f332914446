"""Synthesisers by their names, and one of the user's: a command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from moda.errors import InputError
from moda.speech_synthesis import CommandSynthesiser, Espeak, Kokoro, find_synthesiser

WRITER = """
import sys, wave
text = sys.stdin.read()
with wave.open(sys.argv[1], "wb") as file:
    file.setnchannels(1), file.setsampwidth(2), file.setframerate(16000)
    file.writeframes(bytes(2 * 1600 * len(text)))
open(sys.argv[1] + ".txt", "w").write(text + "|" + "|".join(sys.argv[2:]))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "say it.py"
    path.write_text(WRITER)
    return path


class TestCommand:
    def test_text_on_the_input_and_no_shell(self, script: Path, tmp_path: Path) -> None:
        log = tmp_path / "log.py"
        log.write_text(WRITER.replace('sys.argv[1] + ".txt"', f"{str(tmp_path / 'said')!r}"))
        command = f"'{sys.executable}' '{log}' {{output}} {{language}} {{rate}} '$HOME; ls'"
        synthesiser = CommandSynthesiser(command)
        assert synthesiser.takes_language
        spoken = synthesiser.speak("Hé; rm -rf /", language="fr", voice=None, rate=1.5)
        assert spoken.rate_hz == 16_000
        assert len(spoken.samples) == 1600 * 12
        assert spoken.phones == spoken.words == ()
        assert (tmp_path / "said").read_text() == "Hé; rm -rf /|fr|1.5|$HOME; ls"

    def test_a_voice_needs_a_place(self, script: Path) -> None:
        plain = CommandSynthesiser(f"{sys.executable} '{script}' {{output}}")
        assert not plain.takes_language
        with pytest.raises(InputError, match=r"no place \{voice\}"):
            plain.speak("Hi", language="en", voice="f1", rate=1.0)
        with pytest.raises(InputError, match=r"no place \{rate\}"):
            plain.speak("Hi", language="en", voice=None, rate=2.0)
        voiced = CommandSynthesiser(f"{sys.executable} '{script}' {{output}} {{voice}}")
        with pytest.raises(InputError, match="needs a voice"):
            voiced.speak("Hi", language="en", voice=None, rate=1.0)

    @pytest.mark.parametrize(
        ("command", "says"),
        [
            ("piper --model x", r"does not say where the sound goes; write \{output\}"),
            ("piper '{output}", "not complete"),
            ("", "does not say"),
        ],
    )
    def test_templates(self, command: str, says: str) -> None:
        with pytest.raises(InputError, match=says):
            CommandSynthesiser(command)

    @pytest.mark.parametrize(
        ("code", "says"),
        [
            ("import sys; sys.exit('no model')", "ended with code 1: no model"),
            ("pass", "without writing a sound file"),
            ("import sys; open(sys.argv[1], 'w').write('text')", "cannot be read as sound"),
        ],
    )
    def test_failures(self, code: str, says: str, tmp_path: Path) -> None:
        path = tmp_path / "fail.py"
        path.write_text(code)
        command = CommandSynthesiser(f"{sys.executable} {path} {{output}}")
        with pytest.raises(Exception, match=says) as caught:
            command.speak("Hi", language="en", voice=None, rate=1.0)
        assert "\n" not in str(caught.value)

    def test_a_missing_program(self) -> None:
        with pytest.raises(InputError, match="cannot be started"):
            CommandSynthesiser("no-such-synthesiser {output}").speak(
                "Hi", language="en", voice=None, rate=1.0
            )


def test_names() -> None:
    assert isinstance(find_synthesiser("kokoro"), Kokoro)
    assert isinstance(find_synthesiser(voice="af_heart"), Kokoro)
    assert isinstance(find_synthesiser(voice="f2"), Espeak)
    assert isinstance(find_synthesiser("espeak", voice="af_heart"), Espeak)
    with pytest.raises(InputError, match="unknown synthesiser 'alexa'"):
        find_synthesiser("alexa")
    with pytest.raises(InputError, match="not both"):
        find_synthesiser("espeak", "piper {output}")
