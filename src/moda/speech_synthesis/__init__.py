"""Text in: speech made by a synthesiser in a process of its own, with what is said when.

espeak-ng, Kokoro, or any command; see :func:`find_synthesiser`.
"""

from moda.errors import InputError
from moda.speech_synthesis.command import CommandSynthesiser
from moda.speech_synthesis.espeak import INSTALL as ESPEAK_INSTALL
from moda.speech_synthesis.espeak import Espeak, espeak_is_installed, espeak_languages
from moda.speech_synthesis.kokoro import Kokoro, voice_language
from moda.speech_synthesis.markup import TextPart, parse_text
from moda.speech_synthesis.speaking import (
    DEFAULT_LANGUAGE,
    SpokenText,
    check_spoken_length,
    synthesise,
)
from moda.speech_synthesis.synthesiser import Synthesiser, Utterance

SYNTHESISERS = ("espeak", "kokoro")

__all__ = [
    "DEFAULT_LANGUAGE",
    "ESPEAK_INSTALL",
    "SYNTHESISERS",
    "CommandSynthesiser",
    "Espeak",
    "Kokoro",
    "SpokenText",
    "Synthesiser",
    "TextPart",
    "Utterance",
    "check_spoken_length",
    "espeak_is_installed",
    "espeak_languages",
    "find_synthesiser",
    "parse_text",
    "synthesise",
]


def find_synthesiser(
    name: str | None = None, command: str | None = None, *, voice: str | None = None
) -> Synthesiser:
    """A synthesiser by its name, or around a command; otherwise that of the voice, or espeak-ng.

    Raises:
        InputError: The name is unknown, or both are given, or the command cannot be used.
    """
    if command is not None:
        if name is not None:
            raise InputError("give the name of a synthesiser or a command, not both")
        return CommandSynthesiser(command)
    if name not in (None, *SYNTHESISERS):
        raise InputError(
            f"unknown synthesiser {name!r}; choose one of {', '.join(SYNTHESISERS)}, or a command"
        )
    if name is None and voice is not None and voice_language(voice):
        return Kokoro()
    return Kokoro() if name == "kokoro" else Espeak()
