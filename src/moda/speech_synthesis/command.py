"""Any other synthesiser: a command that reads the text and writes a sound file."""

from __future__ import annotations

import os
import shlex

import numpy as np

from moda.errors import InputError
from moda.files import ScratchFolder
from moda.media import AudioReader
from moda.speech_synthesis.synthesiser import Utterance, run_program

TIMEOUT_SECONDS = 600.0


class CommandSynthesiser:
    """Runs a command such as ``piper --model en.onnx --output_file {output}``.

    The text comes on its standard input, UTF-8; ``{output}`` is the name of the sound file that it
    has to write (any format; the name ends in .wav). ``{language}``, ``{voice}`` and ``{rate}``
    are filled in where they are used. The command is an argument list, never given to a shell.

    Raises:
        InputError: The command is empty, its quotes are not closed, or it has no ``{output}``.
    """

    def __init__(self, template: str) -> None:
        try:
            self._arguments = shlex.split(template, posix=os.name != "nt")
        except ValueError as error:
            raise InputError(f"the command {template!r} is not complete: {error}") from None
        if not self._has("{output}"):
            raise InputError(
                f"the command {template!r} does not say where the sound goes; write {{output}} in "
                "the place of the file name"
            )
        self.takes_language = self._has("{language}")

    def speak(self, text: str, *, language: str, voice: str | None, rate: float) -> Utterance:
        needs_voice = self._has("{voice}")
        if needs_voice != (voice is not None):
            asked = "needs a voice; give one" if needs_voice else "has no place {voice} for a voice"
            raise InputError(f"the command {shlex.join(self._arguments)!r} {asked}")
        if rate != 1.0 and not self._has("{rate}"):
            raise InputError(
                f"the command {shlex.join(self._arguments)!r} has no place {{rate}} for a rate"
            )
        with ScratchFolder("work") as folder:
            output = folder / "speech.wav"
            values = {
                "{output}": str(output),
                "{language}": language,
                "{voice}": voice or "",
                "{rate}": f"{rate:g}",
            }
            run_program(
                [_filled(argument, values) for argument in self._arguments],
                text.encode(),
                name=f"the synthesiser {self._arguments[0]!r}",
                timeout_seconds=TIMEOUT_SECONDS,
            )
            if not output.exists():
                raise InputError(
                    f"the synthesiser {self._arguments[0]!r} ended without writing a sound file"
                )
            rate_hz = AudioReader(output).native_rate_hz
            samples = np.concatenate(list(AudioReader(output, rate_hz)))
        return Utterance(np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16), rate_hz)

    def _has(self, place: str) -> bool:
        return any(place in argument for argument in self._arguments)


def _filled(argument: str, values: dict[str, str]) -> str:
    for place, value in values.items():
        argument = argument.replace(place, value)
    return argument
